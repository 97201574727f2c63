variable "name" {
  description = "What every resource's name begins with."
  type        = string
}

variable "landing_days" {
  description = "For how many days an object stays in the landing bucket. By then its events are in the lake, or its notification in the dead letters."
  type        = number
  default     = 30

  validation {
    condition     = var.landing_days >= 15
    error_message = "landing_days has to be 15 or more: a notification waits in its queue for up to 14 days."
  }
}

variable "disposable" {
  description = "Whether the buckets may be destroyed with what is in them."
  type        = bool
  default     = false
}
