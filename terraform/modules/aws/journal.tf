# The journal of a pair of controllers: a Redis with a replica in another zone. What is in it is sealed under the cluster key.

locals {
  pair    = var.standby_private_ip != null
  journal = local.pair ? "rediss://${aws_elasticache_replication_group.journal[0].primary_endpoint_address}:6379" : "/var/lib/godwit/journal"
}

resource "aws_elasticache_replication_group" "journal" {
  #checkov:skip=CKV_AWS_31:a token would lie in terraform's state; only the controllers' security group reaches it, and what is in it is sealed
  #checkov:skip=CKV_AWS_191:what is in it is sealed under the cluster key, which AWS does not have
  count = local.pair ? 1 : 0

  replication_group_id       = "${var.name}-journal"
  description                = "Journal and lease of Godwit ${var.name}"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = var.redis_node_type
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  parameter_group_name       = aws_elasticache_parameter_group.journal[0].name
  subnet_group_name          = aws_elasticache_subnet_group.journal[0].name
  security_group_ids         = [aws_security_group.journal[0].id]
  port                       = 6379
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  auto_minor_version_upgrade = true
  snapshot_retention_limit   = 1
  tags                       = local.tags
}

resource "aws_elasticache_parameter_group" "journal" {
  count = local.pair ? 1 : 0

  name        = "${var.name}-journal"
  family      = "redis7"
  description = "Godwit ${var.name}: nothing is evicted"
  tags        = local.tags

  dynamic "parameter" {
    for_each = module.logic.redis_parameters
    content {
      name  = parameter.key
      value = parameter.value
    }
  }
}

resource "aws_elasticache_subnet_group" "journal" {
  count = local.pair ? 1 : 0

  name        = "${var.name}-journal"
  description = "Godwit ${var.name}: where the journal lies"
  subnet_ids  = var.subnet_ids
  tags        = local.tags
}

resource "aws_security_group" "journal" {
  count = local.pair ? 1 : 0

  name_prefix = "${var.name}-journal-"
  description = "Journal of Godwit ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-journal" })
}

resource "aws_vpc_security_group_ingress_rule" "journal_from_controllers" {
  count = local.pair ? 1 : 0

  security_group_id            = aws_security_group.journal[0].id
  referenced_security_group_id = aws_security_group.controller.id
  description                  = "Redis over TLS, for the controllers alone"
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}
