output "function_name" {
  description = "The function; its role has the same name."
  value       = aws_lambda_function.ingest.function_name
}

output "function_arn" {
  description = "The function."
  value       = aws_lambda_function.ingest.arn
}

output "queues" {
  description = "The queues by what is in them: events, objects, dead_letters, failures."
  value = { for key, queue in merge(aws_sqs_queue.source, { dead_letters = aws_sqs_queue.dead_letters, failures = aws_sqs_queue.failures }) :
  key => { arn = queue.arn, url = queue.id, name = queue.name } }
}

output "stream" {
  description = "The stream that records are put into."
  value       = { name = aws_kinesis_stream.events.name, arn = aws_kinesis_stream.events.arn }
}

output "events_url" {
  description = "Where events are posted to, if there is an HTTP API."
  value       = one([for api in aws_apigatewayv2_api.events : "${api.api_endpoint}/v1/events"])
}

output "log_group" {
  description = "Where the function's output is."
  value       = { name = aws_cloudwatch_log_group.function.name, arn = aws_cloudwatch_log_group.function.arn }
}

output "send_policy" {
  description = "What whoever sends events may do, by all four ways."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        { Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.source["events"].arn },
        { Effect = "Allow", Action = ["kinesis:PutRecord", "kinesis:PutRecords"], Resource = aws_kinesis_stream.events.arn },
        { Effect = "Allow", Action = "s3:PutObject", Resource = "${var.landing_bucket.arn}/*" },
        # A file that is sent in parts is read with the key, too, when they are put together.
        { Effect = "Allow", Action = ["kms:GenerateDataKey", "kms:Decrypt"], Resource = var.key_arn },
      ],
      [for api in aws_apigatewayv2_api.events : { Effect = "Allow", Action = "execute-api:Invoke", Resource = "${api.execution_arn}/*/POST/v1/events" }],
    )
  })
}
