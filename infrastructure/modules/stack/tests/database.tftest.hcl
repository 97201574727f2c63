# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name              = "lake"
  subnet_ids        = ["subnet-1", "subnet-2"]
  security_group_id = "sg-1"
  key_arn           = "arn:aws:kms:eu-central-1:123456789012:key/1"
  rotation_schedule = "cron(0 3 1 * ? *)"
  log_days          = 7
}

run "database" {
  command = plan
  module { source = "../database" }

  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "the database has no public address"
  }
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.key_arn
    error_message = "its storage is encrypted with the lake's key"
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "its password is RDS's, and in no state"
  }
  assert {
    condition     = anytrue([for parameter in aws_db_parameter_group.this.parameter : parameter.name == "rds.force_ssl" && parameter.value == "1"])
    error_message = "nobody connects without TLS"
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot
    error_message = "it is not deleted unless that is said"
  }
}

run "wrong_values" {
  command = plan
  module { source = "../database" }
  variables {
    engine_version = "13"
    storage_gb     = { first = 100, most = 100 }
    backup_days    = 0
  }
  expect_failures = [var.engine_version, var.storage_gb, var.backup_days]
}
