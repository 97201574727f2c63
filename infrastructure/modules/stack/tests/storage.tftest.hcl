# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name = "lake"
}

# Applied, for a policy names the buckets that it is of.
run "buckets" {
  module { source = "../storage" }

  assert {
    condition = alltrue([for block in aws_s3_bucket_public_access_block.this :
    block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets]) && length(aws_s3_bucket_public_access_block.this) == length(aws_s3_bucket.this)
    error_message = "no bucket can be public"
  }
  assert {
    condition = alltrue([for one in aws_s3_bucket_server_side_encryption_configuration.this : alltrue([for rule in one.rule :
    one(rule.apply_server_side_encryption_by_default).sse_algorithm == "aws:kms" && one(rule.apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.this.arn])])
    error_message = "every bucket is encrypted with the lake's key"
  }
  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "the key is rotated"
  }
  assert {
    condition = alltrue([for policy in aws_s3_bucket_policy.this : anytrue([for one in jsondecode(policy.policy).Statement :
    one.Effect == "Deny" && one.Principal == "*" && one.Action == "s3:*" && length(one.Resource) == 2 && try(one.Condition.Bool["aws:SecureTransport"], "") == "false"])])
    error_message = "no bucket is spoken with without TLS"
  }
  assert {
    condition = alltrue([for action in ["s3:DeleteObject", "s3:PutObject"] : anytrue([for one in jsondecode(aws_s3_bucket_policy.this["lake"].policy).Statement :
    one.Effect == "Deny" && one.Action == action && contains(one.Resource, "${aws_s3_bucket.this["lake"].arn}/lake/events/_delta_log/*.json")])])
    error_message = "no version of the log is deleted or written over"
  }
  assert {
    condition     = alltrue([for policy in aws_s3_bucket_policy.this : alltrue([for one in jsondecode(policy.policy).Statement : one.Effect == "Deny"])])
    error_message = "bucket policies give nobody anything"
  }
  assert {
    condition     = !aws_s3_bucket.this["lake"].force_destroy
    error_message = "a lake with something in it is not destroyed unless that is said"
  }

  # docs/lambda.md: "The function's role needs …".
  assert {
    condition = toset(flatten([for one in jsondecode(output.write_policy).Statement : one.Action])) == toset(
    ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "kms:Decrypt", "kms:GenerateDataKey"])
    error_message = "a writer has the rights that docs/lambda.md names, and the key"
  }
  assert {
    condition     = toset(flatten([for one in jsondecode(output.read_policy).Statement : one.Action])) == toset(["s3:GetObject", "s3:ListBucket", "kms:Decrypt"])
    error_message = "a reader writes nothing"
  }
  assert {
    condition     = [for one in jsondecode(output.read_tables_policy).Statement : one.Resource if one.Action == "s3:GetObject"] == ["${aws_s3_bucket.this["lake"].arn}/lake/delta/*"]
    error_message = "who reads tables reads no events"
  }
}

run "objects_outlive_their_notifications" {
  command = plan
  module { source = "../storage" }
  variables {
    landing_days = 14
  }
  expect_failures = [var.landing_days]
}
