variable "name" {
  description = "What every resource's name begins with."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets that the server and the balancer are in."
  type        = list(string)
}

variable "security_group_ids" {
  description = "The security groups of the server and the balancer."
  type        = object({ server = string, balancer = string })
}

variable "lake_write_policy" {
  description = "What the server may do with the lake, as a policy."
  type        = string
}

variable "environment" {
  description = "The server's environment: LAKEBED_LAKE_URL, LAKEBED_PROJECT_NAME and whatever else is set."
  type        = map(string)
}

variable "database_url" {
  description = "[postgres] url, without TLS's parameters and without the password."
  type        = string
}

variable "database_secret_arn" {
  description = "The secret whose key `password` is the database's password."
  type        = string
}

variable "database_ca_file" {
  description = "Where RDS's certificates are in the image: by them the server knows the database."
  type        = string
  default     = "/project/rds.pem"

  validation {
    condition     = startswith(var.database_ca_file, "/")
    error_message = "database_ca_file has to be a whole path, such as /project/rds.pem."
  }
}

variable "image" {
  description = "The image in ECR, with the project in it and lakebed as its entry point. See README.md."
  type        = string

  validation {
    condition     = can(regex(local.image_form, var.image))
    error_message = "image has to be one in ECR with a tag or a digest, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:1; there is no way to another registry."
  }
}

variable "architecture" {
  description = "What the image was built for."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture has to be arm64 or x86_64, as the image was built."
  }
}

variable "cpu" {
  description = "The server's processors, in units of which 1024 are one."
  type        = number
  default     = 2048

  validation {
    condition     = contains([1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu has to be 1024, 2048, 4096, 8192 or 16384, as Fargate wants it."
  }
}

variable "memory_mb" {
  description = "The server's memory in MiB, of which statements get half. Which sizes go with which cpu, Fargate says."
  type        = number
  default     = 8192

  validation {
    condition     = var.memory_mb >= 4096 && var.memory_mb % 1024 == 0
    error_message = "memory_mb has to be 4096 or more, in steps of 1024."
  }
}

variable "disk_gb" {
  description = "The server's disk, which is as long-lived as its task: the state cache, earlier versions that are asked for, statements that spill, the DuckDB file."
  type        = number
  default     = 50

  validation {
    condition     = var.disk_gb >= 21 && var.disk_gb <= 200
    error_message = "disk_gb has to be from 21 to 200, as Fargate wants it."
  }
}

variable "start_seconds" {
  description = "How long a server may take to its first answer. It answers once its tables are those of the newest version, and has no state cache then: over a long log that takes its time."
  type        = number
  default     = 900

  validation {
    condition     = var.start_seconds >= 60
    error_message = "start_seconds has to be 60 or more."
  }
}

variable "certificate_arn" {
  description = "The certificate in ACM that clients are shown."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn has to be the ARN of a certificate in ACM, of this region."
  }
}

variable "restart_schedule" {
  description = "When the server is started again, to learn the database's new password."
  type        = string
}

variable "log_days" {
  description = "For how many days logs are kept."
  type        = number
}
