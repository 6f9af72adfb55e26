variable "project" {
  description = "The GCP project."
  type        = string
}

variable "controller_private_ip" {
  description = "A free address of the default subnetwork of europe-west4."
  type        = string
  default     = "10.164.0.10"
}

variable "worker_image" {
  description = "A Debian 12 image with the NVIDIA driver."
  type        = string
}

variable "package" {
  description = "The Godwit .deb: gs://BUCKET/OBJECT and its SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder in Cloud Storage, the SHA-256 of its SHA256SUMS, the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}
