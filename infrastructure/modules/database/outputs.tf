output "url" {
  description = "[postgres] url of lakebed.toml, without TLS's parameters and without the password."
  value       = "postgres://${local.user}@${aws_db_instance.this.address}:${aws_db_instance.this.port}/${local.database}"
}

output "identifier" {
  description = "The database, as RDS calls it."
  value       = aws_db_instance.this.identifier
}

output "secret_arn" {
  description = "The secret in Secrets Manager whose key `password` is the password."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
