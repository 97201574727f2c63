# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  image           = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:1"
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
  project         = "shop"
}

run "secrets_are_no_settings" {
  command = plan
  variables {
    name     = "lake"
    settings = { POSTGRES_PASSWORD = "no" }
  }
  expect_failures = [var.settings]
}

run "what_is_made_is_no_setting" {
  command = plan
  variables {
    name     = "lake"
    settings = { LAKE_URL = "s3://elsewhere" }
  }
  expect_failures = [var.settings]
}

run "names_fit_everywhere" {
  command = plan
  variables {
    name     = "The_Lake"
    log_days = 8
  }
  expect_failures = [var.name, var.log_days]
}
