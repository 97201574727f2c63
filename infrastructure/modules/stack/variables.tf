variable "name" {
  description = "What every resource's name begins with, such as shop-dev. Another name is another lake."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name has to be 3 to 25 small letters, digits and single hyphens, beginning with a letter: it is in names of buckets and balancers."
  }
}

variable "project" {
  description = "[project] name of lakebed.toml: whose the lake is."
  type        = string
}

variable "settings" {
  description = "Other keys of lakebed.toml for the function and the server, as SECTION_KEY: { EVENTS_PRESET = \"segment\" }. [columns] has to be in the files."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.settings) : can(regex("^[A-Z0-9]+_[A-Z0-9_]+$", key))])
    error_message = "settings has to have keys of lakebed.toml such as EVENTS_PRESET, without LAKEBED_ before them."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["POSTGRES_PASSWORD", "SERVE_SECRET", "SERVE_WEBHOOK_SECRET", "ALERTS_WEBHOOK", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"])) == 0
    error_message = "settings is in the state for all who read that, and must hold no secrets; the roles and Secrets Manager have those that are needed."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["LAKE_URL", "PROJECT_NAME", "POSTGRES_URL", "SERVE_FLIGHT", "SERVE_HTTP", "SERVE_BEHIND_TLS_PROXY"])) == 0
    error_message = "settings must not say where the lake, the database and the server's doors are: that is set from what is made."
  }
}

variable "function_zip" {
  description = "The path of bootstrap.zip, as docs/lambda.md builds it."
  type        = string
}

variable "image" {
  description = "The image of the server in ECR, with the project in it."
  type        = string
}

variable "architecture" {
  description = "What the function and the image were built for: arm64 or x86_64."
  type        = string
  default     = "arm64"
}

variable "certificate_arn" {
  description = "The certificate in ACM that clients are shown."
  type        = string
}

variable "cidr" {
  description = "The addresses of the VPC."
  type        = string
  default     = "10.20.0.0/16"
}

variable "zones" {
  description = "In how many availability zones there are subnets, 2 or 3."
  type        = number
  default     = 2
}

variable "nat" {
  description = "Whether the server can reach the internet. It needs that for a webhook of [alerts] alone."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "Networks besides the VPC whose people may reach the server."
  type        = list(string)
  default     = []
}

variable "database_client_cidrs" {
  description = "Networks whose people may reach PostgreSQL directly."
  type        = list(string)
  default     = []
}

variable "http_api" {
  description = "Who gets past the HTTP API: iam, tokens, or off."
  type        = string
  default     = "iam"
}

variable "ingest" {
  description = "The size of what takes events in, as the module streaming says it."
  type = object({
    memory_mb                = optional(number, 512)
    timeout_seconds          = optional(number, 120)
    instances                = optional(number, 10)
    stream_hours             = optional(number, 72)
    http_requests_per_second = optional(number, 100)
    landing_days             = optional(number, 30)
  })
  default = {}
}

variable "server" {
  description = "The size of the server, as the module compute says it."
  type = object({
    cpu              = optional(number, 2048)
    memory_mb        = optional(number, 8192)
    disk_gb          = optional(number, 50)
    start_seconds    = optional(number, 900)
    database_ca_file = optional(string, "/project/rds.pem")
  })
  default = {}
}

variable "database" {
  description = "The size of the database, as the module database says it."
  type = object({
    engine_version = optional(string, "17")
    instance_class = optional(string, "db.t4g.small")
    storage_gb     = optional(object({ first = number, most = number }), { first = 20, most = 100 })
    multi_az       = optional(bool, false)
    backup_days    = optional(number, 7)
  })
  default = {}
}

variable "password_change" {
  description = "When the database's password changes, and when the server is started to learn it: an hour later, for the change is made within one. Both in UTC."
  type        = object({ rotate = string, restart = string })
  default     = { rotate = "cron(0 3 1 * ? *)", restart = "cron(10 4 1 * ? *)" }
}

variable "people" {
  description = "Who may take which role, as ARNs of users or roles."
  type = object({
    developers = optional(list(string), [])
    analysts   = optional(list(string), [])
    operators  = optional(list(string), [])
  })
  default = {}
}

variable "require_mfa" {
  description = "Whether taking a role wants a second factor. Off where people come by single sign-on."
  type        = bool
  default     = true
}

variable "developers_send" {
  description = "Whether developers may send events."
  type        = bool
  default     = false
}

variable "alarm_emails" {
  description = "Who is written to when an alarm goes off."
  type        = list(string)
  default     = []
}

variable "log_days" {
  description = "For how many days logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 731, 1827, 3653], var.log_days)
    error_message = "log_days has to be 7, 14, 30, 60, 90, 180, 365, 731, 1827 or 3653, as CloudWatch wants it."
  }
}

variable "disposable" {
  description = "Whether all of it may be destroyed, the lake and the database with what is in them."
  type        = bool
  default     = false
}
