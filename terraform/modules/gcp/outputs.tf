output "api_url" {
  description = "Where clients reach the OpenAI-compatible API."
  value       = "http://${google_compute_address.controller.address}:8000"
}

output "admin_url" {
  description = "Admin listener and metrics, from inside the network and with the admin token."
  value       = "http://${google_compute_address.controller.address}:8001"
}

output "groups" {
  description = "Names of the instance groups."
  value       = { for key, group in google_compute_region_instance_group_manager.worker : key => group.name }
}
