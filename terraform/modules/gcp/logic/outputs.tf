output "region" {
  description = "The zones' region."
  value       = local.region
}

output "groups" {
  description = "The two groups: name, size, how they buy."
  value       = local.groups
}

output "buckets" {
  description = "Buckets that instances read from."
  value       = local.buckets
}

output "read_condition" {
  description = "IAM condition that scopes reading to the package and the model."
  value       = local.read_condition
}

output "controller_permissions" {
  description = "What the controller's role may do."
  value       = local.controller_permissions
}
