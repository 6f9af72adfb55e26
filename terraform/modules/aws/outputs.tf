output "api_url" {
  description = "Where clients reach the OpenAI-compatible API."
  value       = var.certificate_arn == null ? "http://${var.controller_private_ip}:8000" : "https://${aws_lb.api[0].dns_name}"
}

output "admin_urls" {
  description = "Admin listener and metrics of each controller, from inside the VPC and with the admin token; of a pair the one that serves answers."
  value       = [for c in module.logic.controllers : "http://${c.private_ip}:8001"]
}

output "groups" {
  description = "Names of the Auto Scaling groups."
  value       = { for key, group in aws_autoscaling_group.worker : key => group.name }
}

output "queue_url" {
  description = "The notice queue."
  value       = aws_sqs_queue.notices.url
}
