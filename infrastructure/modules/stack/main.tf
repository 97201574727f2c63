# One lake: what each module is given, and from whom.

provider "aws" {
  default_tags {
    tags = { lake = var.name }
  }
}

locals {
  # Of the function and the server alike.
  environment = merge(
    { LAKEBED_LAKE_URL = module.storage.lake_url, LAKEBED_PROJECT_NAME = var.project },
    { for key, value in var.settings : "LAKEBED_${key}" => value },
  )
}

module "networking" {
  source                = "../networking"
  name                  = var.name
  cidr                  = var.cidr
  zones                 = var.zones
  nat                   = var.nat
  client_cidrs          = var.client_cidrs
  database_client_cidrs = var.database_client_cidrs
  log_days              = var.log_days
}

module "storage" {
  source       = "../storage"
  name         = var.name
  landing_days = var.ingest.landing_days
  disposable   = var.disposable
}

module "streaming" {
  source                   = "../streaming"
  name                     = var.name
  subnet_ids               = module.networking.private_subnet_ids
  security_group_id        = module.networking.security_group_ids["function"]
  lake_write_policy        = module.storage.write_policy
  key_arn                  = module.storage.key_arn
  landing_bucket           = module.storage.landing_bucket
  environment              = local.environment
  function_zip             = var.function_zip
  architecture             = var.architecture
  http_api                 = var.http_api
  memory_mb                = var.ingest.memory_mb
  timeout_seconds          = var.ingest.timeout_seconds
  instances                = var.ingest.instances
  stream_hours             = var.ingest.stream_hours
  http_requests_per_second = var.ingest.http_requests_per_second
  log_days                 = var.log_days
}

module "database" {
  source            = "../database"
  name              = var.name
  subnet_ids        = module.networking.private_subnet_ids
  security_group_id = module.networking.security_group_ids["database"]
  key_arn           = module.storage.key_arn
  engine_version    = var.database.engine_version
  instance_class    = var.database.instance_class
  storage_gb        = var.database.storage_gb
  multi_az          = var.database.multi_az
  backup_days       = var.database.backup_days
  rotation_schedule = var.password_change.rotate
  disposable        = var.disposable
  log_days          = var.log_days
}

module "compute" {
  source              = "../compute"
  name                = var.name
  vpc_id              = module.networking.vpc_id
  subnet_ids          = module.networking.private_subnet_ids
  security_group_ids  = module.networking.security_group_ids
  lake_write_policy   = module.storage.write_policy
  environment         = local.environment
  database_url        = module.database.url
  database_secret_arn = module.database.secret_arn
  image               = var.image
  architecture        = var.architecture
  cpu                 = var.server.cpu
  memory_mb           = var.server.memory_mb
  disk_gb             = var.server.disk_gb
  start_seconds       = var.server.start_seconds
  database_ca_file    = var.server.database_ca_file
  certificate_arn     = var.certificate_arn
  restart_schedule    = var.password_change.restart
  log_days            = var.log_days
}

module "access" {
  source          = "../access"
  name            = var.name
  people          = var.people
  require_mfa     = var.require_mfa
  developers_send = var.developers_send
  log_group_arns  = [module.streaming.log_group.arn, module.compute.log_group.arn]
  queue_arns      = { for name, queue in module.streaming.queues : name => queue.arn }
  function_arn    = module.streaming.function_arn

  policies = {
    write       = module.storage.write_policy
    read        = module.storage.read_policy
    read_tables = module.storage.read_tables_policy
    send        = module.streaming.send_policy
  }

  server = {
    cluster_arn = module.compute.cluster.arn
    service_arn = module.compute.service.arn
    family_arn  = module.compute.task.family_arn
    role_arns   = module.compute.task.role_arns
  }
}

module "observability" {
  source              = "../observability"
  name                = var.name
  emails              = var.alarm_emails
  function_name       = module.streaming.function_name
  queue_names         = { for name, queue in module.streaming.queues : name => queue.name }
  database_identifier = module.database.identifier

  server = {
    cluster      = module.compute.cluster.name
    service      = module.compute.service.name
    balancer     = module.compute.balancer.metric
    target_group = module.compute.balancer.target_group
    log_group    = module.compute.log_group.name
  }
}

# For producers that have roles of their own.
resource "aws_iam_policy" "send" {
  name        = "${var.name}-send"
  description = "Sends events to the lake"
  policy      = module.streaming.send_policy
}
