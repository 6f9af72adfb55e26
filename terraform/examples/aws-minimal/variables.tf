variable "region" {
  description = "The AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "worker_image_id" {
  description = "A Debian 12 image with the NVIDIA driver."
  type        = string
}

variable "package" {
  description = "The Godwit .deb: s3://BUCKET/KEY.deb and its SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder in S3, the SHA-256 of its SHA256SUMS, the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}

variable "secret_arns" {
  description = "Secrets Manager secrets with the cluster key and the admin token."
  type        = object({ cluster_key = string, admin_token = string })
}
