output "alarm_names" {
  description = "The alarms."
  value       = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name]
}

output "topic_arn" {
  description = "Where alarms go: a pager or a chat can be subscribed to it."
  value       = aws_sns_topic.alarms.arn
}
