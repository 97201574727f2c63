variable "name" {
  description = "What every role's name begins with."
  type        = string
}

variable "people" {
  description = "Who may take which role, as ARNs of users or of roles that they have already. A role that nobody may take is not made."
  type = object({
    developers = optional(list(string), [])
    analysts   = optional(list(string), [])
    operators  = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = alltrue([for arn in flatten(values(var.people)) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(user|role)/", arn))])
    error_message = "people has to be ARNs of users or roles, such as arn:aws:iam::123456789012:role/engineer; a whole account is too many."
  }
}

variable "require_mfa" {
  description = "Whether a second factor has to be shown. AWS knows of it where users of IAM take a role; whoever comes by single sign-on has shown it there, and AWS is not told."
  type        = bool
  default     = true
}

variable "developers_send" {
  description = "Whether developers may send events, too."
  type        = bool
  default     = false
}

variable "policies" {
  description = "What the parts of the lake say may be done with them, as policies."
  type        = object({ write = string, read = string, read_tables = string, send = string })
}

variable "log_group_arns" {
  description = "The logs that developers and operators read."
  type        = list(string)
}

variable "queue_arns" {
  description = "The queues, by what is in them: events, objects, dead_letters, failures."
  type        = map(string)
}

variable "function_arn" {
  description = "The function that appends."
  type        = string
}

variable "server" {
  description = "The server: its cluster, its service, its task definition without a revision, and the roles that its tasks have."
  type        = object({ cluster_arn = string, service_arn = string, family_arn = string, role_arns = list(string) })
}
