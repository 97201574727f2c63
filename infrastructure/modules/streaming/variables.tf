variable "name" {
  description = "What every resource's name begins with."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets that the function is in."
  type        = list(string)
}

variable "security_group_id" {
  description = "The function's security group."
  type        = string
}

variable "lake_write_policy" {
  description = "What the function may do with the lake, as a policy."
  type        = string
}

variable "key_arn" {
  description = "The key that the landing bucket is encrypted with."
  type        = string
}

variable "landing_bucket" {
  description = "The bucket whose new objects are taken."
  type        = object({ name = string, arn = string })
}

variable "environment" {
  description = "The function's environment: LAKEBED_LAKE_URL, LAKEBED_PROJECT_NAME and whatever else is set."
  type        = map(string)
}

variable "function_zip" {
  description = "The path of bootstrap.zip, as docs/lambda.md builds it. A lakebed.toml in it is read."
  type        = string

  validation {
    condition     = fileexists(var.function_zip)
    error_message = "function_zip has to be the path of bootstrap.zip; `cargo lambda build` makes it, see docs/lambda.md."
  }
}

variable "architecture" {
  description = "What the function was built for."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture has to be arm64 or x86_64, as the function was built."
  }
}

variable "memory_mb" {
  description = "The function's memory in MB, and with it its share of a processor."
  type        = number
  default     = 512

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb has to be from 128 to 10240."
  }
}

variable "timeout_seconds" {
  description = "How long one call of the function may take."
  type        = number
  default     = 120

  validation {
    condition     = var.timeout_seconds >= 30 && var.timeout_seconds <= 900
    error_message = "timeout_seconds has to be from 30 to 900."
  }
}

variable "instances" {
  description = "How many instances of the function take messages of one queue at once, at most. Those that append at once share commits, so that more of them bring less and less."
  type        = number
  default     = 10

  validation {
    condition     = var.instances >= 2 && var.instances <= 1000
    error_message = "instances has to be from 2 to 1000, as SQS wants it."
  }
}

variable "stream_hours" {
  description = "For how many hours Kinesis keeps a record: so long may the lake be away before one is lost."
  type        = number
  default     = 72

  validation {
    condition     = var.stream_hours >= 24 && var.stream_hours <= 8760
    error_message = "stream_hours has to be from 24 to 8760."
  }
}

variable "http_api" {
  description = "Who gets past the HTTP API: iam (signed requests of this account's roles), tokens (of `lakebed token add`, which the function looks at itself), or off (there is none)."
  type        = string
  default     = "iam"

  validation {
    condition     = contains(["iam", "tokens", "off"], var.http_api)
    error_message = "http_api has to be iam, tokens or off."
  }
}

variable "http_requests_per_second" {
  description = "How many requests a second the HTTP API lets through, and twice as many for a moment."
  type        = number
  default     = 100

  validation {
    condition     = var.http_requests_per_second >= 1
    error_message = "http_requests_per_second has to be 1 or more."
  }
}

variable "log_days" {
  description = "For how many days logs are kept."
  type        = number
}
