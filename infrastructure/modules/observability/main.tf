# Where alarms go, and a page to look at.

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}

# It carries names of alarms and numbers, nothing of events, and so has no key.
resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.me.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = toset(var.emails)
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = {
          title  = "Alarms"
          alarms = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn]
        }
      }],
      [for at, name in keys(local.alarms) : {
        type = "metric", x = at % 3 * 8, y = 3 + floor(at / 3) * 5, width = 8, height = 5
        properties = {
          title       = name
          region      = data.aws_region.here.name
          annotations = { alarms = [aws_cloudwatch_metric_alarm.this[name].arn] }
        }
      }],
    )
  })
}
