output "api_url" {
  description = "Where clients reach the OpenAI-compatible API."
  value       = "http://${var.controller_private_ip}:8000"
}

output "admin_url" {
  description = "Admin listener and metrics, from inside the network and with the admin token."
  value       = "http://${var.controller_private_ip}:8001"
}

output "groups" {
  description = "Names of the scale sets."
  value       = { for key, set in azurerm_linux_virtual_machine_scale_set.worker : key => set.name }
}
