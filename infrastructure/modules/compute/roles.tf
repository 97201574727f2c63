# Two roles: what ECS may do to start the server, and what the server may do itself.

locals {
  trust = { for service in ["ecs-tasks", "scheduler"] : service => jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "${service}.amazonaws.com" }
      # Of this account, and for nobody else's sake.
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.me.account_id } }
    }]
  }) }
}

resource "aws_iam_role" "start" {
  name               = "${var.name}-server-start"
  assume_role_policy = local.trust["ecs-tasks"]
}

resource "aws_iam_role_policy" "start" {
  name = "start"
  role = aws_iam_role.start.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # AWS has no resource for it.
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = local.repository
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.server.arn}:*"
      },
      {
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = [var.database_secret_arn, aws_secretsmanager_secret.serve.arn]
      },
    ]
  })
}

resource "aws_iam_role" "server" {
  name               = "${var.name}-server"
  assume_role_policy = local.trust["ecs-tasks"]
}

resource "aws_iam_role_policy" "server" {
  name   = "lake"
  role   = aws_iam_role.server.id
  policy = var.lake_write_policy
}
