# The HTTP API: the only door of lakebed's that the internet reaches. With iam, AWS lets in who signs; with tokens, everybody
# gets to the function, which asks for a token of the lake.

locals {
  http_api = var.http_api == "off" ? 0 : 1
}

resource "aws_apigatewayv2_api" "events" {
  count         = local.http_api
  name          = "${var.name}-events"
  protocol_type = "HTTP"
}

resource "aws_apigatewayv2_integration" "ingest" {
  count                  = local.http_api
  api_id                 = aws_apigatewayv2_api.events[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.ingest.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "events" {
  count              = local.http_api
  api_id             = aws_apigatewayv2_api.events[0].id
  route_key          = "POST /v1/events"
  target             = "integrations/${aws_apigatewayv2_integration.ingest[0].id}"
  authorization_type = var.http_api == "iam" ? "AWS_IAM" : "NONE"
}

resource "aws_apigatewayv2_stage" "default" {
  count       = local.http_api
  api_id      = aws_apigatewayv2_api.events[0].id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit  = var.http_requests_per_second
    throttling_burst_limit = 2 * var.http_requests_per_second
  }

  # Who called and what came of it; nothing of headers and bodies, where tokens and events are.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.http_api[0].arn
    format = jsonencode({
      time   = "$context.requestTime"
      from   = "$context.identity.sourceIp"
      caller = "$context.identity.userArn"
      status = "$context.status"
      bytes  = "$context.responseLength"
      error  = "$context.integrationErrorMessage"
    })
  }
}

resource "aws_cloudwatch_log_group" "http_api" {
  count             = local.http_api
  name              = "/${var.name}/http-api"
  retention_in_days = var.log_days
}

resource "aws_lambda_permission" "http_api" {
  count         = local.http_api
  statement_id  = "HttpApi"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.ingest.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.events[0].execution_arn}/*/POST/v1/events"
}
