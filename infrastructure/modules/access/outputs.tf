output "role_arns" {
  description = "The roles that people take, by who: developers, analysts, operators."
  value       = { for name, role in aws_iam_role.person : name => role.arn }
}
