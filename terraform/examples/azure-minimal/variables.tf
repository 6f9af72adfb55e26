variable "location" {
  description = "The Azure region."
  type        = string
  default     = "westeurope"
}

variable "worker_image_id" {
  description = "A Debian 12 image with the NVIDIA driver."
  type        = string
}

variable "controller_image_id" {
  description = "A Debian 12 image."
  type        = string
}

variable "ssh_public_key" {
  description = "Azure wants a key for the administrator; no rule lets SSH in."
  type        = string
}

variable "package" {
  description = "The Godwit .deb: its blob's address and SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder in Blob Storage, the SHA-256 of its SHA256SUMS, the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}

variable "storage_container_ids" {
  description = "Resource ids of the containers that hold the package and the model."
  type        = list(string)
}

variable "secrets" {
  description = "Key Vault secrets with the cluster key and the admin token: address and resource id of each."
  type = object({
    cluster_key = object({ url = string, id = string })
    admin_token = object({ url = string, id = string })
  })
}
