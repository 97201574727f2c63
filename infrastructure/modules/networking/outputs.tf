output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "The subnets that everything is in."
  value       = [for subnet in aws_subnet.private : subnet.id]
}

output "security_group_ids" {
  description = "The security groups, by who is in them: balancer, server, function, database, endpoints."
  value       = { for name, group in aws_security_group.this : name => group.id }
}
