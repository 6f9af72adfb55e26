output "groups" {
  description = "The two groups: name, size, how they buy."
  value       = local.groups
}

output "queue_name" {
  description = "Name of the notice queue."
  value       = local.queue_name
}

output "event_patterns" {
  description = "EventBridge rules by key: what each lets through, as JSON."
  value       = { for key, pattern in local.event_patterns : key => jsonencode(pattern) }
}

output "rule_names" {
  description = "EventBridge rules by key: their names, which the queue's policy names too."
  value       = local.rule_names
}

output "worker_policy" {
  description = "What a worker's role may do, as JSON."
  value       = jsonencode(local.worker_policy)
}

output "controller_policy" {
  description = "What the controller's role may do, as JSON."
  value       = jsonencode(local.controller_policy)
}

output "queue_policy" {
  description = "Who may write to the queue, as JSON."
  value       = jsonencode(local.queue_policy)
}

output "assume_role_policy" {
  description = "Who may take the roles: instances, as JSON."
  value       = jsonencode(local.assume_role_policy)
}

output "controllers" {
  description = "The controllers: address and subnet. With two, the one that holds the journal serves."
  value       = local.controllers

  precondition {
    condition     = !local.pair || (length(var.subnet_ids) >= 2 && var.standby_private_ip != var.controller_private_ip)
    error_message = "A pair needs two subnets, and an address in each."
  }
  precondition {
    condition     = !local.pair || var.load_balanced
    error_message = "A pair needs a load balancer (certificate_arn): clients must find the one that serves."
  }
}

# A journal must not be thrown away to make room: the controller refuses a server that might.
output "redis_parameters" {
  description = "Parameters of the journal's Redis."
  value       = { maxmemory-policy = "noeviction" }
}
