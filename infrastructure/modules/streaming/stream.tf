# Kinesis: records in the order of their shard.

resource "aws_kinesis_stream" "events" {
  name             = "${var.name}-events"
  retention_period = var.stream_hours
  encryption_type  = "KMS"
  kms_key_id       = "alias/aws/kinesis"
  stream_mode_details {
    stream_mode = "ON_DEMAND"
  }
}

# The only mapping of the stream, one batch of a shard at a time: the log keeps how far each shard is, and takes what comes
# after later records for a repetition. So a record is never given up while Kinesis has it (both limits are -1, for ever),
# for those behind it would be taken then, and it no more.
resource "aws_lambda_event_source_mapping" "stream" {
  function_name                      = aws_lambda_function.ingest.arn
  event_source_arn                   = aws_kinesis_stream.events.arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = 1000
  maximum_batching_window_in_seconds = 1
  parallelization_factor             = 1
  function_response_types            = ["ReportBatchItemFailures"]
  maximum_retry_attempts             = -1
  maximum_record_age_in_seconds      = -1
  # A batch that is too much for the function's time is tried again in halves, in their order.
  bisect_batch_on_function_error = true
  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.failures.arn
    }
  }
}
