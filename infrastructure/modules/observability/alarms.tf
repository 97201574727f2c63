# What somebody is told of. A line is an alarm; each is on the dashboard as well.

locals {
  function = { FunctionName = var.function_name }
  queue    = { for name, queue in var.queue_names : name => { QueueName = queue } }
  server   = { ClusterName = var.server.cluster, ServiceName = var.server.service }
  targets  = { LoadBalancer = var.server.balancer, TargetGroup = var.server.target_group }
  database = { DBInstanceIdentifier = var.database_identifier }
  minute   = 60

  # over or under: what it must not be. times: for so many minutes on end.
  alarms = {
    # What fails once is tried again: it is a lake that does not take anything for a quarter of an hour that matters.
    function-fails    = { of = "AWS/Lambda", metric = "Errors", by = local.function, statistic = "Sum", over = 0, times = 15 }
    stream-is-behind  = { of = "AWS/Lambda", metric = "IteratorAge", by = local.function, statistic = "Maximum", over = 900000, times = 5 }
    events-wait       = { of = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", by = local.queue["events"], statistic = "Maximum", over = 900, times = 5 }
    objects-wait      = { of = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", by = local.queue["objects"], statistic = "Maximum", over = 900, times = 5 }
    dead-letters      = { of = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", by = local.queue["dead_letters"], statistic = "Maximum", over = 0, times = 1 }
    failures          = { of = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", by = local.queue["failures"], statistic = "Maximum", over = 0, times = 1 }
    server-is-away    = { of = "AWS/NetworkELB", metric = "HealthyHostCount", by = local.targets, statistic = "Maximum", under = 1, times = 3 }
    server-is-busy    = { of = "AWS/ECS", metric = "CPUUtilization", by = local.server, statistic = "Average", over = 90, times = 30 }
    server-memory     = { of = "AWS/ECS", metric = "MemoryUtilization", by = local.server, statistic = "Maximum", over = 90, times = 5 }
    database-is-busy  = { of = "AWS/RDS", metric = "CPUUtilization", by = local.database, statistic = "Average", over = 90, times = 30 }
    database-is-full  = { of = "AWS/RDS", metric = "FreeStorageSpace", by = local.database, statistic = "Minimum", under = 2147483648, times = 5 }
    tables-are-stale  = { of = var.name, metric = "alerts", by = { alert = "stale" }, statistic = "Sum", over = 0, times = 1 }
    quarantine-bursts = { of = var.name, metric = "alerts", by = { alert = "quarantine" }, statistic = "Sum", over = 0, times = 1 }
    check-fails       = { of = var.name, metric = "alerts", by = { alert = "check" }, statistic = "Sum", over = 0, times = 1 }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  namespace           = each.value.of
  metric_name         = each.value.metric
  dimensions          = each.value.by
  statistic           = each.value.statistic
  comparison_operator = can(each.value.over) ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = try(each.value.over, each.value.under)
  period              = local.minute
  evaluation_periods  = each.value.times
  # A server of which nothing is heard is away; of all else, nothing means that nothing came.
  treat_missing_data = each.key == "server-is-away" ? "breaching" : "notBreaching"
  alarm_actions      = [aws_sns_topic.alarms.arn]
  ok_actions         = [aws_sns_topic.alarms.arn]
}

# What lakebed's own lookout tells of comes as lines of JSON among the server's output: [alerts] of docs/operating.md. A
# stale table is told of once, and so is the alarm: what it ends with is in the log.
resource "aws_cloudwatch_log_metric_filter" "alerts" {
  name           = "${var.name}-alerts"
  log_group_name = var.server.log_group
  pattern        = "{ $.alert = \"*\" && $.resolved IS FALSE }"
  metric_transformation {
    namespace  = var.name
    name       = "alerts"
    value      = "1"
    dimensions = { alert = "$.alert" }
  }
}
