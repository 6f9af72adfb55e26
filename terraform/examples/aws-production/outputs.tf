output "api_url" {
  description = "Where clients reach the OpenAI-compatible API."
  value       = module.godwit.api_url
}

output "groups" {
  description = "Names of the Auto Scaling groups."
  value       = module.godwit.groups
}
