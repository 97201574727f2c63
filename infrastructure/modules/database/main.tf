# The PostgreSQL that lakebed keeps its models in. It holds the tables of one lake, which come back from there if it is lost.

locals {
  user     = "lakebed"
  database = "lakebed"
}

resource "aws_db_instance" "this" {
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  db_name        = local.database
  port           = 5432

  # RDS makes the password, keeps it in Secrets Manager and changes it; it is in no state. The user is RDS's master, no
  # superuser, which is what lakebed needs: CREATE on its database, and CREATEROLE for policies.
  username                    = local.user
  manage_master_user_password = true

  storage_type          = "gp3"
  allocated_storage     = var.storage_gb.first
  max_allocated_storage = var.storage_gb.most
  storage_encrypted     = true
  kms_key_id            = var.key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [var.security_group_id]
  publicly_accessible    = false
  multi_az               = var.multi_az
  parameter_group_name   = aws_db_parameter_group.this.name

  backup_retention_period   = var.backup_days
  copy_tags_to_snapshot     = true
  deletion_protection       = !var.disposable
  skip_final_snapshot       = var.disposable
  final_snapshot_identifier = "${var.name}-last"

  enabled_cloudwatch_logs_exports = ["postgresql"]
  depends_on                      = [aws_cloudwatch_log_group.this]
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name   = "${var.name}-${var.engine_version}"
  family = "postgres${var.engine_version}"

  # The default from 15 on; said here, so that it holds for 14, and whoever changes it is seen.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# RDS would make it, and keep it for ever.
resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_days
}

# RDS's own schedule is each week, at a time that nobody knows. lakebed reads its password when it starts: this is followed
# by a start of the server.
resource "aws_secretsmanager_secret_rotation" "this" {
  secret_id          = aws_db_instance.this.master_user_secret[0].secret_arn
  rotate_immediately = false
  rotation_rules {
    schedule_expression = var.rotation_schedule
    duration            = "1h"
  }
}
