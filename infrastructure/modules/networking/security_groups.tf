# Who speaks with whom. What is not here is refused, outwards as well.

locals {
  groups = {
    balancer  = "Takes connections of clients"
    server    = "lakebed serve"
    function  = "The function that appends events"
    database  = "PostgreSQL"
    endpoints = "Services of AWS"
  }

  # Each line is a rule of both: out of the one, into the other.
  talks = {
    http     = { from = "balancer", to = "server", port = 8080 }
    flight   = { from = "balancer", to = "server", port = 31337 }
    sink     = { from = "server", to = "database", port = 5432 }
    services = { from = "server", to = "endpoints", port = 443 }
  }

  clients = merge(
    { for pair in setproduct(concat([var.cidr], var.client_cidrs), [443, 31337]) :
    "${pair[0]} ${pair[1]}" => { to = "balancer", cidr = pair[0], port = pair[1] } },
    { for cidr in var.database_client_cidrs :
    "${cidr} 5432" => { to = "database", cidr = cidr, port = 5432 } },
  )
}

resource "aws_security_group" "this" {
  for_each    = local.groups
  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_egress_rule" "talk" {
  for_each                     = local.talks
  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = "To ${each.value.to}"
}

resource "aws_vpc_security_group_ingress_rule" "talk" {
  for_each                     = local.talks
  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = "From ${each.value.from}"
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each          = local.clients
  security_group_id = aws_security_group.this[each.value.to].id
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  description       = "Clients"
}

# The bucket, by the gateway endpoint.
resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each          = toset(["function", "server"])
  security_group_id = aws_security_group.this[each.key].id
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "The lake"
}

# The one rule that is open to the world, outwards: a webhook may be anywhere.
resource "aws_vpc_security_group_egress_rule" "out" {
  count             = var.nat ? 1 : 0
  security_group_id = aws_security_group.this["server"].id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  description       = "Webhooks"
}
