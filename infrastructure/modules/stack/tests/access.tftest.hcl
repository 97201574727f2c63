# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name = "lake"
  policies = { for name, action in { write = "s3:PutObject", read = "s3:GetObject", read_tables = "s3:ListBucket", send = "sqs:SendMessage" } :
  name => jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = action, Resource = "arn:aws:s3:::lake" }] }) }
  log_group_arns = ["arn:aws:logs:eu-central-1:123456789012:log-group:/lake/server"]
  function_arn   = "arn:aws:lambda:eu-central-1:123456789012:function:lake-ingest"
  queue_arns     = { for name in ["events", "objects", "dead_letters", "failures"] : name => "arn:aws:sqs:eu-central-1:123456789012:lake-${name}" }
  server = {
    cluster_arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/lake"
    service_arn = "arn:aws:ecs:eu-central-1:123456789012:service/lake/server"
    family_arn  = "arn:aws:ecs:eu-central-1:123456789012:task-definition/lake-server"
    role_arns   = ["arn:aws:iam::123456789012:role/lake-server"]
  }
  people = {
    developers = ["arn:aws:iam::123456789012:role/engineer"]
    operators  = ["arn:aws:iam::123456789012:role/on-call"]
  }
}

run "roles" {
  command = plan
  module { source = "../access" }

  assert {
    condition     = toset(keys(aws_iam_role.person)) == toset(["developers", "operators"])
    error_message = "a role that nobody may take is not there"
  }
  assert {
    condition     = alltrue([for role in aws_iam_role.person : jsondecode(role.assume_role_policy).Statement[0].Condition.Bool["aws:MultiFactorAuthPresent"] == "true"])
    error_message = "a role wants a second factor"
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.person["developers lake"].policy) == jsondecode(var.policies.read) && !contains(keys(aws_iam_role_policy.person), "developers send") && !contains(keys(aws_iam_role_policy.person), "developers operate")
    error_message = "developers read, and neither send nor operate"
  }
  assert {
    condition = alltrue([for one in jsondecode(aws_iam_role_policy.person["operators operate"].policy).Statement :
    can(one.Condition.StringEquals["iam:PassedToService"]) && toset(one.Resource) == toset(var.server.role_arns) if one.Action == "iam:PassRole"])
    error_message = "operators pass the server's roles to ECS, and no others"
  }
}

run "analysts" {
  command = plan
  module { source = "../access" }
  variables {
    people = { analysts = ["arn:aws:iam::123456789012:user/analyst"] }
  }
  assert {
    condition     = [for policy in aws_iam_role_policy.person : jsondecode(policy.policy)] == [jsondecode(var.policies.read_tables)]
    error_message = "analysts read tables and nothing else"
  }
}

run "not_everybody" {
  command = plan
  module { source = "../access" }
  variables {
    people = { developers = ["arn:aws:iam::123456789012:root"], operators = ["*"] }
  }
  expect_failures = [var.people]
}
