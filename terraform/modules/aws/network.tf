# Who reaches whom: clients the API, workers the controller and each other, the world nobody.

resource "aws_security_group" "worker" {
  name_prefix = "${var.name}-worker-"
  description = "Godwit workers of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-worker" })
}

resource "aws_security_group" "controller" {
  name_prefix = "${var.name}-ctl-"
  description = "Godwit controller of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-controller" })
}

resource "aws_security_group" "load_balancer" {
  count = var.certificate_arn == null ? 0 : 1

  name_prefix = "${var.name}-lb-"
  description = "Load balancer of Godwit ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-lb" })
}

resource "aws_vpc_security_group_ingress_rule" "worker_from_workers" {
  #checkov:skip=CKV_AWS_25:the source is the group itself, not the world
  security_group_id            = aws_security_group.worker.id
  referenced_security_group_id = aws_security_group.worker.id
  description                  = "ranks of one pipeline"
  ip_protocol                  = "tcp"
  from_port                    = 1024
  to_port                      = 65535
}

resource "aws_vpc_security_group_ingress_rule" "controller_from_workers" {
  security_group_id            = aws_security_group.controller.id
  referenced_security_group_id = aws_security_group.worker.id
  description                  = "notices (8001) and the worker port (8002)"
  ip_protocol                  = "tcp"
  from_port                    = 8001
  to_port                      = 8002
}

resource "aws_vpc_security_group_ingress_rule" "controller_from_load_balancer" {
  count = var.certificate_arn == null ? 0 : 1

  security_group_id            = aws_security_group.controller.id
  referenced_security_group_id = aws_security_group.load_balancer[0].id
  description                  = "the API"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
}

resource "aws_vpc_security_group_ingress_rule" "api_from_clients" {
  for_each = toset(var.client_cidrs)

  security_group_id = var.certificate_arn == null ? aws_security_group.controller.id : aws_security_group.load_balancer[0].id
  cidr_ipv4         = each.value
  description       = "clients of the API"
  ip_protocol       = "tcp"
  from_port         = var.certificate_arn == null ? 8000 : 443
  to_port           = var.certificate_arn == null ? 8000 : 443
}

# Packages, the model, secrets and the clouds' APIs are reached over HTTPS; package indexes over HTTP too.
resource "aws_vpc_security_group_egress_rule" "worker" {
  security_group_id = aws_security_group.worker.id
  description       = "the controller, other workers, and what is fetched at the start"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "controller" {
  security_group_id = aws_security_group.controller.id
  description       = "AWS, and what is fetched at the start"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  count = var.certificate_arn == null ? 0 : 1

  security_group_id            = aws_security_group.load_balancer[0].id
  referenced_security_group_id = aws_security_group.controller.id
  description                  = "the API"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
}
