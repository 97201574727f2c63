# What clients connect to. It speaks TLS with them, by a certificate of ACM's that renews itself; lakebed has plain HTTP/2 and
# HTTP behind it, and is told so. It is inside: whoever is not in the VPC comes by a VPN or a peering.

locals {
  doors = {
    # Clients of gRPC ask for HTTP/2 by ALPN, and get nothing else.
    flight = { port = 31337, listen = 31337, alpn = "HTTP2Only" }
    http   = { port = 8080, listen = 443, alpn = "None" }
  }
}

resource "aws_lb" "this" {
  name               = var.name
  load_balancer_type = "network"
  internal           = true
  subnets            = var.subnet_ids
  security_groups    = [var.security_group_ids.balancer]
  # There is one server, in one of the zones.
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "this" {
  for_each    = local.doors
  name        = "${var.name}-${each.key}"
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "TCP"
  port        = each.value.port
  # Streams that are being read when a server is told to end have five seconds from it.
  deregistration_delay = 30

  health_check {
    protocol            = "HTTP"
    port                = 8080
    path                = "/healthz"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "this" {
  for_each          = local.doors
  load_balancer_arn = aws_lb.this.arn
  protocol          = "TLS"
  port              = each.value.listen
  alpn_policy       = each.value.alpn
  certificate_arn   = var.certificate_arn
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.key].arn
  }
}
