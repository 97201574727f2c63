# SQS: a queue for events, and one for the notifications of the landing bucket.

locals {
  queues = {
    # Messages that come together share a commit.
    events = { batch = 100, window = 1 }
    # An object is as large as it likes, and has a call to itself.
    objects = { batch = 1, window = 0 }
  }
  two_weeks = 1209600
}

resource "aws_sqs_queue" "source" {
  for_each                  = local.queues
  name                      = local.queue_names[each.key]
  policy                    = local.queue_policies[each.key]
  sqs_managed_sse_enabled   = true
  message_retention_seconds = local.two_weeks
  # What AWS asks for: six times the function's timeout, so that nothing comes twice while it is worked on.
  visibility_timeout_seconds = 6 * var.timeout_seconds

  # A poison message does not come here: it is in quarantine, with its reason. This is for a lake that is away for long:
  # ten tries of six timeouts each.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 10
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = local.queue_names["dead_letters"]
  policy                    = local.queue_policies["dead_letters"]
  sqs_managed_sse_enabled   = true
  message_retention_seconds = local.two_weeks
}

# What Lambda gave up: calls that nobody waited for, and records that Kinesis keeps no longer. They are told here in
# Lambda's own words, and so cannot be put back into a queue as dead letters can.
resource "aws_sqs_queue" "failures" {
  name                      = local.queue_names["failures"]
  policy                    = local.queue_policies["failures"]
  sqs_managed_sse_enabled   = true
  message_retention_seconds = local.two_weeks
}

locals {
  queue_names = { for key in ["events", "objects", "dead_letters", "failures"] : key => "${var.name}-${replace(key, "_", "-")}" }
  # By their names, for a queue's policy names the queue that it is of.
  queue_arns = { for key, name in local.queue_names :
  key => "arn:${data.aws_partition.here.partition}:sqs:${data.aws_region.here.name}:${data.aws_caller_identity.me.account_id}:${name}" }

  queue_policies = { for key, arn in local.queue_arns : key => jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      key == "objects" ? [{
        Sid       = "Notifications"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = arn
        Condition = {
          ArnEquals    = { "aws:SourceArn" = var.landing_bucket.arn }
          StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.me.account_id }
        }
      }] : [],
    )
  }) }
}

resource "aws_s3_bucket_notification" "landing" {
  bucket = var.landing_bucket.name
  queue {
    queue_arn = aws_sqs_queue.source["objects"].arn
    events    = ["s3:ObjectCreated:*"]
  }
}

resource "aws_lambda_event_source_mapping" "queue" {
  for_each                           = local.queues
  function_name                      = aws_lambda_function.ingest.arn
  event_source_arn                   = aws_sqs_queue.source[each.key].arn
  batch_size                         = each.value.batch
  maximum_batching_window_in_seconds = each.value.window
  # Without it AWS takes a call in which some messages failed for one in which none did.
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = var.instances
  }
}
