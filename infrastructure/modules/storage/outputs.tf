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

output "write_policy" {
  description = "What whoever appends to the lake, refreshes it or keeps it up may do: docs/lambda.md, and the key."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        Resource = "${aws_s3_bucket.this["lake"].arn}/lake/*"
      },
      {
        # Of the whole bucket: without it, S3 answers 403 for an object that is not there.
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = aws_s3_bucket.this["lake"].arn
      },
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = aws_kms_key.this.arn
      },
    ]
  })
}

output "read_policy" {
  description = "What whoever asks the lake by itself may do, with `lakebed query` or any reader of Delta tables. No policy of lakebed holds for them."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${aws_s3_bucket.this["lake"].arn}/lake/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = aws_s3_bucket.this["lake"].arn
      },
      {
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = aws_kms_key.this.arn
      },
    ]
  })
}

output "read_tables_policy" {
  description = "What whoever reads the models as Delta tables may do. The events are not among them."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${aws_s3_bucket.this["lake"].arn}/lake/delta/*"
      },
      {
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = aws_s3_bucket.this["lake"].arn
        Condition = { StringLike = { "s3:prefix" = ["lake/delta/*"] } }
      },
      {
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = aws_kms_key.this.arn
      },
    ]
  })
}
