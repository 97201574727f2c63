variable "name" {
  description = "What every alarm's name begins with."
  type        = string
}

variable "emails" {
  description = "Who is written to when an alarm goes off. Each confirms it once, by a link."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "emails has to be addresses, such as oncall@example.com."
  }
}

variable "function_name" {
  description = "The function that appends."
  type        = string
}

variable "queue_names" {
  description = "The queues, by what is in them: events, objects, dead_letters, failures."
  type        = map(string)
}

variable "server" {
  description = "The server: the names of its cluster and its service, what CloudWatch calls its balancer and targets, and its log group."
  type        = object({ cluster = string, service = string, balancer = string, target_group = string, log_group = string })
}

variable "database_identifier" {
  description = "The database, as RDS calls it."
  type        = string
}
