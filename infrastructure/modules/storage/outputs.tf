output "lake_url" {
  description = "[lake] url of lakebed.toml."
  value       = "s3://${aws_s3_bucket.this["lake"].bucket}/lake"
}

output "landing_bucket" {
  description = "The bucket that files of events are put into."
  value       = { name = aws_s3_bucket.this["landing"].bucket, arn = aws_s3_bucket.this["landing"].arn }
}

output "key_arn" {
  description = "The key that everything is encrypted with."
  value       = aws_kms_key.this.arn
}

# Who may do what with the lake is said here, once, and attached to roles elsewhere.

locals {
  lake = aws_s3_bucket.this["lake"].arn

  grants = {
    write  = { objects = "lake/*", may = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], key = ["kms:Decrypt", "kms:GenerateDataKey"], lists = [] }
    read   = { objects = "lake/*", may = "s3:GetObject", key = "kms:Decrypt", lists = [] }
    tables = { objects = "lake/delta/*", may = "s3:GetObject", key = "kms:Decrypt", lists = ["lake/delta/*"] }
  }

  policies = { for who, grant in local.grants : who => jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = grant.may
        Resource = "${local.lake}/${grant.objects}"
      },
      # Of the whole bucket where nothing else is said: without it, S3 answers 403 for an object that is not there.
      merge(
        { Effect = "Allow", Action = "s3:ListBucket", Resource = local.lake },
        { for prefixes in [grant.lists] : "Condition" => { StringLike = { "s3:prefix" = prefixes } } if length(prefixes) > 0 },
      ),
      {
        Effect   = "Allow"
        Action   = grant.key
        Resource = aws_kms_key.this.arn
      },
    ]
  }) }
}

output "write_policy" {
  description = "What whoever appends to the lake, refreshes it or keeps it up may do: docs/lambda.md, and the key."
  value       = local.policies.write
}

output "read_policy" {
  description = "What whoever asks the lake by itself may do, with `lakebed query` or any reader of Delta tables. No policy of lakebed holds for them."
  value       = local.policies.read
}

output "read_tables_policy" {
  description = "What whoever reads the models as Delta tables may do. The events are not among them."
  value       = local.policies.tables
}
