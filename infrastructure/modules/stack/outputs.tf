output "lake_url" {
  description = "For `lakebed --lake`."
  value       = module.storage.lake_url
}

output "balancer_dns_name" {
  description = "What the certificate's name has to point to. Flight SQL is at port 31337, HTTP at 443."
  value       = module.compute.balancer.dns_name
}

output "events_url" {
  description = "Where events are posted to from outside, if there is an HTTP API."
  value       = module.streaming.events_url
}

output "sources" {
  description = "What events are sent to."
  value = {
    queue    = module.streaming.queues["events"].url
    stream   = module.streaming.stream.name
    bucket   = module.storage.landing_bucket.name
    function = module.streaming.function_name
  }
}

output "send_policy_arn" {
  description = "The policy for whoever sends events."
  value       = aws_iam_policy.send.arn
}

output "role_arns" {
  description = "The roles that people take."
  value       = module.access.role_arns
}

output "run_task" {
  description = "What `aws ecs run-task` needs to run a command of lakebed where the server is."
  value = {
    cluster         = module.compute.cluster.name
    task_definition = "${var.name}-server"
    subnets         = module.networking.private_subnet_ids
    security_groups = [module.networking.security_group_ids["server"]]
  }
}
