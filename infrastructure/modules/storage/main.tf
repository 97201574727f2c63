# Two buckets: the lake, and the landing that others put files of events into. They are two because a notification of a
# bucket that its own function writes to would call that function for ever.

data "aws_caller_identity" "me" {}

locals {
  buckets = {
    lake    = "${var.name}-${data.aws_caller_identity.me.account_id}-lake"
    landing = "${var.name}-${data.aws_caller_identity.me.account_id}-landing"
  }
}

# One key for all that is kept: taking it away takes the data away, and every use of it is in CloudTrail. Its policy is the
# default one, by which the roles' own policies say who uses it.
resource "aws_kms_key" "this" {
  description         = "The data of ${var.name}"
  enable_key_rotation = true
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

# Versioning is off. A writer puts an inbox entry for each batch and deletes it, and every commit lists the inbox: the
# delete markers would be listed through, more of them every day. And what a vacuum deletes is to be gone. Against being
# written over or deleted, the log is kept by policy.tf instead.
resource "aws_s3_bucket" "this" {
  for_each      = local.buckets
  bucket        = each.value
  force_destroy = var.disposable
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = aws_s3_bucket.this
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  rule {
    # A key of the bucket's own for a while, derived from the other: a lake is many small objects, and each would be a call.
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

# Nothing of the lake expires: what it does not need any more is deleted by lakebed's own vacuum, which knows. And lakebed
# puts whole objects; it is others who send large files in parts, and may be killed between two of them.
resource "aws_s3_bucket_lifecycle_configuration" "landing" {
  bucket = aws_s3_bucket.this["landing"].id

  rule {
    id     = "taken"
    status = "Enabled"
    filter {}
    expiration {
      days = var.landing_days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}
