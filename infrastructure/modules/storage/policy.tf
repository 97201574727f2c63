# What the buckets refuse, whoever asks.

locals {
  # What is put once and stays: the versions of the log, its columns, and whose lake it is. Checkpoints, beside the versions,
  # end in .parquet.
  for_ever = [
    for path in ["lake.json", "events/_delta_log/*.json", "events/_columns/*.json"] :
    "${aws_s3_bucket.this["lake"].arn}/lake/${path}"
  ]

  refused = {
    lake = [
      {
        Sid       = "TheLogIsNotDeleted"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:DeleteObject"
        Resource  = local.for_ever
      },
      {
        # lakebed puts these if they are absent, and in no other way.
        Sid       = "TheLogIsNotWrittenOver"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:PutObject"
        Resource  = local.for_ever
        Condition = { Null = { "s3:if-none-match" = "true" } }
      },
    ]
    landing = []
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this
  bucket   = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [each.value.arn, "${each.value.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      local.refused[each.key],
    )
  })
  depends_on = [aws_s3_bucket_public_access_block.this]
}
