# Credentials that no account has: without an emulator behind AWS_ENDPOINT_URL these tests fail, and make nothing.
provider "aws" {
  access_key = "testing"
  secret_key = "testing"
}

variables {
  name     = "lake"
  log_days = 7
}

run "closed" {
  command = plan
  module { source = "../networking" }

  variables {
    client_cidrs = ["10.9.0.0/16"]
  }

  assert {
    condition     = length(aws_internet_gateway.this) + length(aws_nat_gateway.this) + length(aws_route.public) + length(aws_route.out) == 0
    error_message = "without nat there is no way to the internet, in neither direction"
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.map_public_ip_on_launch != true]) && length(aws_subnet.public) == 0
    error_message = "nothing in the private subnets has a public address"
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.client : "${rule.cidr_ipv4} ${rule.from_port}-${rule.to_port}"]) == toset(["10.20.0.0/16 443-443", "10.20.0.0/16 31337-31337", "10.9.0.0/16 443-443", "10.9.0.0/16 31337-31337"])
    error_message = "clients reach the balancer's two ports, from the VPC and from the networks that are named"
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.out) == 0 && alltrue([for rule in aws_vpc_security_group_egress_rule.talk : rule.cidr_ipv4 == null])
    error_message = "no group speaks with addresses, but with other groups"
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && strcontains(aws_vpc_endpoint.s3.policy, "aws:ResourceAccount")
    error_message = "S3 is reached by a gateway that lets no data out to another account's bucket"
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ecr.api", "ecr.dkr", "logs", "secretsmanager"])
    error_message = "there are the endpoints that Fargate needs to start a task, and no others"
  }
}

run "with_a_way_out" {
  command = plan
  module { source = "../networking" }

  variables {
    nat = true
  }

  assert {
    condition     = aws_route.out[0].gateway_id == null && aws_route.public[0].nat_gateway_id == null
    error_message = "the private subnets' route goes to the NAT gateway, and only the public one's to the internet gateway"
  }
  assert {
    condition     = length(aws_subnet.public) == 1 && alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch != true])
    error_message = "the public subnet has the NAT gateway in it and gives nobody a public address"
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.out[0].from_port == 443 && aws_vpc_security_group_egress_rule.out[0].to_port == 443
    error_message = "what goes out is HTTPS"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.client : rule.cidr_ipv4 != "0.0.0.0/0"])
    error_message = "a way out is no way in"
  }
}

run "the_world_is_no_client" {
  command = plan
  module { source = "../networking" }

  variables {
    client_cidrs          = ["0.0.0.0/0"]
    database_client_cidrs = ["0.0.0.0/0"]
    zones                 = 1
    cidr                  = "10.20.0.0/24"
  }

  expect_failures = [var.client_cidrs, var.database_client_cidrs, var.zones, var.cidr]
}
