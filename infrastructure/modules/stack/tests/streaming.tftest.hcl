# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name              = "lake"
  subnet_ids        = ["subnet-1", "subnet-2"]
  security_group_id = "sg-1"
  lake_write_policy = "{}"
  key_arn           = "arn:aws:kms:eu-central-1:123456789012:key/1"
  landing_bucket    = { name = "landing", arn = "arn:aws:s3:::landing" }
  environment       = { LAKEBED_LAKE_URL = "s3://lake/lake", LAKEBED_PROJECT_NAME = "shop" }
  log_days          = 7
}

run "sources" {
  command = plan
  module { source = "../streaming" }

  assert {
    condition     = aws_lambda_event_source_mapping.stream.parallelization_factor == 1 && length(aws_lambda_event_source_mapping.stream.filter_criteria) == 0
    error_message = "a stream is read by one mapping, one batch of a shard at a time, without filters"
  }
  assert {
    condition     = aws_lambda_event_source_mapping.stream.maximum_retry_attempts == -1 && aws_lambda_event_source_mapping.stream.maximum_record_age_in_seconds == -1
    error_message = "no record is given up while Kinesis has it"
  }
  assert {
    condition     = alltrue([for mapping in concat(values(aws_lambda_event_source_mapping.queue), [aws_lambda_event_source_mapping.stream]) : mapping.function_response_types == toset(["ReportBatchItemFailures"])])
    error_message = "every mapping reads which records failed"
  }
  assert {
    condition     = alltrue([for queue in aws_sqs_queue.source : queue.visibility_timeout_seconds >= 6 * aws_lambda_function.ingest.timeout])
    error_message = "a message is not delivered again while it is worked on"
  }
  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.source), [aws_sqs_queue.dead_letters, aws_sqs_queue.failures]) : queue.sqs_managed_sse_enabled])
    error_message = "every queue is encrypted"
  }
  assert {
    condition = alltrue([for queue in concat(values(aws_sqs_queue.source), [aws_sqs_queue.dead_letters, aws_sqs_queue.failures]) :
    jsondecode(queue.policy).Statement[0].Sid == "TlsOnly" && endswith(jsondecode(queue.policy).Statement[0].Resource, ":${queue.name}")])
    error_message = "no queue is spoken with without TLS"
  }
  assert {
    condition     = aws_kinesis_stream.events.encryption_type == "KMS"
    error_message = "the stream is encrypted"
  }
  assert {
    condition     = aws_apigatewayv2_route.events[0].authorization_type == "AWS_IAM" && aws_apigatewayv2_integration.ingest[0].payload_format_version == "2.0"
    error_message = "who posts events signs, unless something else is said"
  }
  assert {
    condition     = aws_lambda_function.ingest.vpc_config[0].subnet_ids == toset(["subnet-1", "subnet-2"])
    error_message = "the function is in the VPC"
  }
}

run "no_http_api" {
  command = plan
  module { source = "../streaming" }
  variables {
    http_api = "off"
  }
  assert {
    condition     = length(aws_apigatewayv2_api.events) + length(aws_lambda_permission.http_api) == 0
    error_message = "off is off"
  }
}

run "wrong_values" {
  command = plan
  module { source = "../streaming" }
  variables {
    http_api        = "open"
    architecture    = "arm"
    timeout_seconds = 3
    stream_hours    = 1
    instances       = 1
  }
  expect_failures = [var.http_api, var.architecture, var.timeout_seconds, var.stream_hours, var.instances]
}
