output "cluster" {
  description = "The ECS cluster."
  value       = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
}

output "service" {
  description = "The ECS service."
  value       = { name = aws_ecs_service.server.name, arn = aws_ecs_service.server.id }
}

output "task" {
  description = "The task definition's ARN without its revision, and the two roles that whoever runs it passes on."
  value = {
    family_arn = aws_ecs_task_definition.server.arn_without_revision
    role_arns  = [aws_iam_role.start.arn, aws_iam_role.server.arn]
  }
}

output "balancer" {
  description = "The name that the certificate's name has to point to, and what CloudWatch calls the balancer and its targets."
  value = {
    dns_name     = aws_lb.this.dns_name
    metric       = aws_lb.this.arn_suffix
    target_group = aws_lb_target_group.this["http"].arn_suffix
  }
}

output "log_group" {
  description = "Where the server's output is."
  value       = { name = aws_cloudwatch_log_group.server.name, arn = aws_cloudwatch_log_group.server.arn }
}
