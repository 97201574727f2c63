# A new task after the database's password has changed: the old one read it when it started. Until then PostgreSQL falls
# behind, and nothing is lost: the next publication brings what it missed.

resource "aws_scheduler_schedule" "restart" {
  name                = "${var.name}-restart"
  description         = "The server reads the database's password anew"
  schedule_expression = var.restart_schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:${data.aws_partition.here.partition}:scheduler:::aws-sdk:ecs:updateService"
    role_arn = aws_iam_role.restart.arn
    input = jsonencode({
      Cluster            = aws_ecs_cluster.this.name
      Service            = aws_ecs_service.server.name
      ForceNewDeployment = true
    })
  }
}

resource "aws_iam_role" "restart" {
  name               = "${var.name}-restart"
  assume_role_policy = local.trust["scheduler"]
}

resource "aws_iam_role_policy" "restart" {
  name = "restart"
  role = aws_iam_role.restart.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "ecs:UpdateService"
      Resource = aws_ecs_service.server.id
    }]
  })
}
