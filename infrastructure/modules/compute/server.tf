# `lakebed serve --watch`, on Fargate: Flight SQL, SQL and events over HTTP, refreshes, sinks, and the log's upkeep.

data "aws_caller_identity" "me" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  image_form = "^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.(?:amazonaws\\.com(?:\\.cn)?)/([a-z0-9._/-]+)(?::[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$"
  image      = regex(local.image_form, var.image)
  repository = "arn:${data.aws_partition.here.partition}:ecr:${local.image[1]}:${local.image[0]}:repository/${local.image[2]}"

  environment = merge(
    {
      LAKEBED_MODELS_SINKS = "postgres, delta"
      LAKEBED_POSTGRES_URL = "${var.database_url}?sslmode=verify-full&sslrootcert=${var.database_ca_file}"

      LAKEBED_SERVE_FLIGHT           = "0.0.0.0:31337"
      LAKEBED_SERVE_HTTP             = "0.0.0.0:8080"
      LAKEBED_SERVE_BEHIND_TLS_PROXY = "on"
      # The rest is for the refreshes, tables that are kept, events on their way in, and the system.
      LAKEBED_SERVE_QUERIES_MEMORY = tostring(var.memory_mb / 2 * 1048576)

      # An alert is a line of the log, and the log's filters make alarms of it.
      LAKEBED_ALERTS_COMMAND = "printf '%s\\n' \"$(cat)\" >&2"
    },
    var.environment,
  )
}

resource "aws_ecs_cluster" "this" {
  name = var.name
}

resource "aws_ecs_task_definition" "server" {
  family                   = "${var.name}-server"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory_mb
  execution_role_arn       = aws_iam_role.start.arn
  task_role_arn            = aws_iam_role.server.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  ephemeral_storage {
    size_in_gib = var.disk_gb
  }

  container_definitions = jsonencode([{
    name      = "lakebed"
    image     = var.image
    essential = true
    command   = ["serve", "--watch"]
    # lakebed ends within six seconds of SIGTERM.
    stopTimeout  = 30
    portMappings = [for port in [8080, 31337] : { containerPort = port, hostPort = port, protocol = "tcp" }]
    environment  = [for name, value in local.environment : { name = name, value = value }]
    secrets = [
      { name = "LAKEBED_POSTGRES_PASSWORD", valueFrom = "${var.database_secret_arn}:password::" },
      { name = "LAKEBED_SERVE_SECRET", valueFrom = aws_secretsmanager_secret.serve.arn },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.server.name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = "serve"
      }
    }
  }])
}

resource "aws_ecs_service" "server" {
  name            = "server"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.server.arn
  launch_type     = "FARGATE"

  # One, for it refreshes as well. While it is replaced there are two for a moment, which no table notices: of two refreshes
  # at once one ends in the other's, and their tickets have the same secret.
  desired_count                      = 1
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = var.start_seconds

  # An image that does not come up is not tried for ever: the one before goes on.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [var.security_group_ids.server]
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.this
    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "lakebed"
      container_port   = load_balancer.value.port
    }
  }

  depends_on = [aws_lb_listener.this, aws_iam_role_policy.server, aws_iam_role_policy.start]
}

resource "aws_cloudwatch_log_group" "server" {
  name              = "/${var.name}/server"
  retention_in_days = var.log_days
}

# What the server signs tickets with. It is made here and written without being in a plan or a state.
ephemeral "aws_secretsmanager_random_password" "serve" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "serve" {
  name        = "${var.name}/serve-secret"
  description = "LAKEBED_SERVE_SECRET"
}

resource "aws_secretsmanager_secret_version" "serve" {
  secret_id        = aws_secretsmanager_secret.serve.id
  secret_string_wo = ephemeral.aws_secretsmanager_random_password.serve.random_password
  # Raise it for another secret; tickets that are out are no longer good then.
  secret_string_wo_version = 1
}
