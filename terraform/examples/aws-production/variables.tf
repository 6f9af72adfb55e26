variable "region" {
  description = "The AWS region."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "private_subnet_ids" {
  description = "Private subnets, one per zone, with a way to S3 and Secrets Manager (NAT or endpoints)."
  type        = list(string)
}

variable "controller_private_ip" {
  description = "A free address of the first subnet."
  type        = string
}

variable "standby_private_ip" {
  description = "A free address of the second subnet, for the second controller."
  type        = string
}

variable "certificate_arn" {
  description = "ACM certificate of the API's name."
  type        = string
}

variable "worker_image_id" {
  description = "A Debian 12 image with the NVIDIA driver."
  type        = string
}

variable "controller_image_id" {
  description = "A Debian 12 image."
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
