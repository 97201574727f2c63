locals {
  look = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery"]
        Resource = flatten([for arn in var.log_group_arns : [arn, "${arn}:*"]])
      },
      {
        Effect   = "Allow"
        Action   = "sqs:GetQueueAttributes"
        Resource = values(var.queue_arns)
      },
      {
        Effect   = "Allow"
        Action   = ["lambda:GetFunctionConfiguration"]
        Resource = var.function_arn
      },
      {
        Effect   = "Allow"
        Action   = "ecs:DescribeServices"
        Resource = var.server.service_arn
      },
      {
        # AWS has no resource for these. They give names and numbers of the account, and no data.
        Effect   = "Allow"
        Action   = ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "logs:DescribeLogGroups", "logs:GetQueryResults"]
        Resource = "*"
      },
    ]
  })

  operate = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # A start again.
        Effect   = "Allow"
        Action   = "ecs:UpdateService"
        Resource = var.server.service_arn
      },
      {
        # `lakebed verify`, `doctor` or `replay` as a task of its own: where the server is, with what it may do.
        Effect    = "Allow"
        Action    = "ecs:RunTask"
        Resource  = "${var.server.family_arn}:*"
        Condition = { ArnEquals = { "ecs:cluster" = var.server.cluster_arn } }
      },
      {
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = var.server.role_arns
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
      {
        Effect   = "Allow"
        Action   = ["ecs:DescribeTasks", "ecs:StopTask"]
        Resource = "${replace(var.server.cluster_arn, ":cluster/", ":task/")}/*"
      },
      {
        Effect    = "Allow"
        Action    = ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"]
        Resource  = "*"
        Condition = { ArnEquals = { "lambda:FunctionArn" = var.function_arn } }
      },
      {
        # AWS has no resource for these.
        Effect   = "Allow"
        Action   = ["ecs:ListTasks", "lambda:ListEventSourceMappings"]
        Resource = "*"
      },
      {
        # Dead letters, looked at and put back to where they came from.
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:StartMessageMoveTask", "sqs:ListMessageMoveTasks", "sqs:CancelMessageMoveTask"]
        Resource = [var.queue_arns["dead_letters"], var.queue_arns["failures"]]
      },
      {
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = [var.queue_arns["events"], var.queue_arns["objects"]]
      },
    ]
  })
}
