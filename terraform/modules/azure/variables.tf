variable "name" {
  description = "Prefix of everything that is made."
  type        = string
}

variable "resource_group_name" {
  description = "The resource group that everything lies in."
  type        = string
}

variable "location" {
  description = "The region that everything lies in."
  type        = string
}

variable "subnet_id" {
  description = "The subnet of workers and controller."
  type        = string
}

variable "subnet_cidr" {
  description = "Its addresses."
  type        = string
}

variable "zones" {
  description = "Availability zones of the scale sets; empty: the region's choice."
  type        = list(string)
  default     = ["1", "2", "3"]
}

variable "controller_private_ip" {
  description = "A free address of the subnet: workers dial the controller by it."
  type        = string
}

variable "client_cidrs" {
  description = "Who may reach the API."
  type        = list(string)
}

variable "size" {
  description = "VM size of workers."
  type        = string
  default     = "Standard_NV36ads_A10_v5"
}

variable "controller_size" {
  description = "VM size of the controller, which has no GPU."
  type        = string
  default     = "Standard_D4s_v5"
}

variable "image_id" {
  description = "A Debian 12 image with the NVIDIA driver for workers."
  type        = string
}

variable "controller_image_id" {
  description = "A Debian 12 image."
  type        = string
}

variable "ssh_public_key" {
  description = "Azure wants a key for the administrator; no rule of this module lets SSH in."
  type        = string
}

variable "root_gb" {
  description = "Size of the OS disks."
  type        = number
  default     = 50
}

variable "spot" {
  description = "Bounds and first size of the spot set; the controller sets the size between them."
  type        = object({ min = number, max = number, start = number })
  default     = { min = 0, max = 8, start = 2 }
}

variable "on_demand" {
  description = "Bounds and first size of the on-demand set, the fallback."
  type        = object({ min = number, max = number, start = number })
  default     = { min = 0, max = 2, start = 0 }
}

variable "package" {
  description = "The Godwit .deb: its blob's https:// address and SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder, https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX with a SHA256SUMS in it; the SHA-256 of that; the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}

variable "storage_container_ids" {
  description = "Resource ids of the containers that hold the package and the model."
  type        = list(string)
}

variable "secrets" {
  description = "Key Vault secrets that hold the cluster key and the admin token: address and resource id of each; made by hand."
  type = object({
    cluster_key = object({ url = string, id = string })
    admin_token = object({ url = string, id = string })
  })
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}
