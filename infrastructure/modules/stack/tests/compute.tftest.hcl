# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name                = "lake"
  vpc_id              = "vpc-1"
  subnet_ids          = ["subnet-1", "subnet-2"]
  security_group_ids  = { server = "sg-1", balancer = "sg-2" }
  lake_write_policy   = "{}"
  environment         = { LAKEBED_LAKE_URL = "s3://lake/lake", LAKEBED_PROJECT_NAME = "shop" }
  database_url        = "postgres://lakebed@db:5432/lakebed"
  database_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db"
  restart_schedule    = "cron(10 4 1 * ? *)"
  log_days            = 7
}

run "server" {
  command = plan
  module { source = "../compute" }

  assert {
    condition     = aws_lb.this.internal && alltrue([for listener in aws_lb_listener.this : listener.protocol == "TLS" && strcontains(listener.ssl_policy, "TLS13")])
    error_message = "the balancer is inside, and speaks TLS alone"
  }
  assert {
    condition     = !aws_ecs_service.server.network_configuration[0].assign_public_ip
    error_message = "the server has no public address"
  }
  assert {
    condition     = aws_ecs_service.server.enable_execute_command != true
    error_message = "nobody gets a shell in the server"
  }
  assert {
    condition     = alltrue([for group in aws_lb_target_group.this : group.health_check[0].path == "/healthz" && group.health_check[0].port == "8080"])
    error_message = "its health is asked for where lakebed tells it"
  }
}

run "wrong_values" {
  command = plan
  module { source = "../compute" }
  variables {
    image           = "docker.io/library/lakebed:latest"
    certificate_arn = "lake.example.com"
    memory_mb       = 2048
    cpu             = 1000
    disk_gb         = 10
  }
  expect_failures = [var.image, var.certificate_arn, var.memory_mb, var.cpu, var.disk_gb]
}
