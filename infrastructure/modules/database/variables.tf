variable "name" {
  description = "What every resource's name begins with."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets that the database is in."
  type        = list(string)
}

variable "security_group_id" {
  description = "The database's security group."
  type        = string
}

variable "key_arn" {
  description = "The key that its storage is encrypted with."
  type        = string
}

variable "engine_version" {
  description = "PostgreSQL's major version; lakebed needs 14 or newer."
  type        = string
  default     = "17"

  validation {
    condition     = try(tonumber(var.engine_version), 0) >= 14
    error_message = "engine_version has to be a major version of PostgreSQL, 14 or newer."
  }
}

variable "instance_class" {
  description = "How large the database is."
  type        = string
  default     = "db.t4g.small"
}

variable "storage_gb" {
  description = "How large its storage is at first, and up to where it grows by itself."
  type        = object({ first = number, most = number })
  default     = { first = 20, most = 100 }

  validation {
    # RDS refuses a limit that is not a tenth above.
    condition     = var.storage_gb.first >= 20 && var.storage_gb.most >= 1.1 * var.storage_gb.first
    error_message = "storage_gb.first has to be 20 or more, and storage_gb.most a tenth more than that."
  }
}

variable "multi_az" {
  description = "Whether a second instance in another zone takes over."
  type        = bool
  default     = false
}

variable "backup_days" {
  description = "For how many days RDS keeps its backups. The tables come back from the lake without one; roles, passwords and grants that were made by hand do not."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days has to be from 1 to 35."
  }
}

variable "rotation_schedule" {
  description = "When RDS changes the password, within an hour; the server has to be started again after it."
  type        = string
}

variable "disposable" {
  description = "Whether the database may be destroyed, without a last snapshot."
  type        = bool
  default     = false
}

variable "log_days" {
  description = "For how many days logs are kept."
  type        = number
}
