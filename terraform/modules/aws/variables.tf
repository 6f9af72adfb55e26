variable "name" {
  description = "Prefix of everything that is made, and value of the tag godwit-cluster."
  type        = string
}

variable "vpc_id" {
  description = "The VPC that everything lies in."
  type        = string
}

variable "subnet_ids" {
  description = "One private subnet per zone for workers; more zones, more spot capacity. The controller lies in the first."
  type        = list(string)
}

variable "controller_private_ip" {
  description = "A free address of the first subnet: workers dial the controller by it."
  type        = string
}

variable "standby_private_ip" {
  description = "A free address of the second subnet, for a second controller that waits there, with a Redis for the journal of both; null: one controller. Needs a load balancer."
  type        = string
  default     = null
}

variable "redis_node_type" {
  description = "Type of the nodes of the journal's Redis."
  type        = string
  default     = "cache.t4g.small"
}

variable "client_cidrs" {
  description = "Who may reach the API (through the load balancer, where there is one)."
  type        = list(string)
}

variable "certificate_arn" {
  description = "ACM certificate of the API's load balancer; null: no load balancer, the API is plain HTTP on port 8000 of the controller."
  type        = string
  default     = null
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, in two zones at least."
  type        = list(string)
  default     = []
}

variable "internal" {
  description = "Is the load balancer for the VPC alone?"
  type        = bool
  default     = true
}

variable "instance_types" {
  description = "GPU types of workers, the preferred first."
  type        = list(string)
  default     = ["g6.xlarge", "g5.xlarge", "g6.2xlarge", "g5.2xlarge"]
}

variable "controller_instance_type" {
  description = "Type of the controller, which has no GPU."
  type        = string
  default     = "m7i.xlarge"
}

variable "image_id" {
  description = "A Debian 12 image with the NVIDIA driver for workers."
  type        = string
}

variable "controller_image_id" {
  description = "A Debian 12 image."
  type        = string
}

variable "root_gb" {
  description = "Size of the root disks."
  type        = number
  default     = 50
}

variable "spot" {
  description = "Bounds and first size of the spot group; the controller sets the size between them."
  type        = object({ min = number, max = number, start = number })
  default     = { min = 0, max = 8, start = 2 }
}

variable "on_demand" {
  description = "Bounds and first size of the on-demand group, the fallback."
  type        = object({ min = number, max = number, start = number })
  default     = { min = 0, max = 2, start = 0 }
}

variable "terminate_hook_s" {
  description = "How long an instance that a group ends is kept for the hand-over."
  type        = number
  default     = 100
}

variable "package" {
  description = "The Godwit .deb: s3://BUCKET/KEY.deb and its SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder, s3://BUCKET/PREFIX with a SHA256SUMS in it; the SHA-256 of that; the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}

variable "secret_arns" {
  description = "Secrets Manager secrets that hold the cluster key and the admin token; made by hand, so that no state has them."
  type        = object({ cluster_key = string, admin_token = string })
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}
