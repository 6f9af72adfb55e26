output "api_url" {
  description = "Where clients reach the OpenAI-compatible API."
  value       = module.godwit.api_url
}

output "groups" {
  description = "Names of the instance groups."
  value       = module.godwit.groups
}
