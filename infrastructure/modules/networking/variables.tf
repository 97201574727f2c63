variable "name" {
  description = "What every resource's name begins with."
  type        = string
}

variable "cidr" {
  description = "The addresses of the VPC. Where clients come from other networks, it has to be none of theirs."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.cidr)[1]), 99) <= 20
    error_message = "cidr has to be an IPv4 block of /16 to /20, such as 10.20.0.0/16."
  }
}

variable "zones" {
  description = "In how many availability zones there are subnets. RDS and the balancer want two; each further one costs an address of every interface endpoint."
  type        = number
  default     = 2

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones has to be 2 or 3."
  }
}

variable "nat" {
  description = "Whether the server can reach the internet, through one NAT gateway. It needs that for a webhook of [alerts] alone."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "Networks besides the VPC whose people may reach the server: a VPN's, an office's, a peered VPC's."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]), 0) >= 8])
    error_message = "client_cidrs has to be IPv4 blocks of /8 or smaller: the server is not for the whole internet."
  }
}

variable "database_client_cidrs" {
  description = "Networks whose people may reach PostgreSQL directly; without any, only the server does."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.database_client_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]), 0) >= 8])
    error_message = "database_client_cidrs has to be IPv4 blocks of /8 or smaller: the database is not for the whole internet."
  }
}

variable "log_days" {
  description = "For how many days the log of refused connections is kept."
  type        = number
}
