output "groups" {
  description = "The two scale sets: name, size, how they buy."
  value       = local.groups
}

output "controller_actions" {
  description = "What the controller's role may do with its sets."
  value       = local.controller_actions
}
