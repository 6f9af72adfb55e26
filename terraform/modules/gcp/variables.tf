variable "name" {
  description = "Prefix of everything that is made."
  type        = string
}

variable "project" {
  description = "The project that everything lies in."
  type        = string
}

variable "network" {
  description = "Name of the VPC network."
  type        = string
}

variable "subnetwork" {
  description = "Name of the subnetwork, in the zones' region, with access to Google's APIs."
  type        = string
}

variable "zones" {
  description = "Zones of the groups, in one region. The controller lies in the first."
  type        = list(string)
}

variable "controller_private_ip" {
  description = "A free address of the subnetwork: workers dial the controller by it."
  type        = string
}

variable "client_cidrs" {
  description = "Who may reach the API."
  type        = list(string)
}

variable "machine_type" {
  description = "Machine type of workers."
  type        = string
  default     = "g2-standard-8"
}

variable "controller_machine_type" {
  description = "Machine type of the controller, which has no GPU."
  type        = string
  default     = "n2-standard-4"
}

variable "image" {
  description = "A Debian 12 image with the NVIDIA driver for workers."
  type        = string
}

variable "controller_image" {
  description = "A Debian 12 image."
  type        = string
  default     = "projects/debian-cloud/global/images/family/debian-12"
}

variable "root_gb" {
  description = "Size of the boot disks."
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

variable "package" {
  description = "The Godwit .deb: gs://BUCKET/OBJECT and its SHA-256."
  type        = object({ location = string, sha256 = string })
}

variable "model" {
  description = "The model's folder, gs://BUCKET/PREFIX with a SHA256SUMS in it; the SHA-256 of that; the name it is served as."
  type        = object({ location = string, manifest_sha256 = string, served_as = string })
}

variable "secrets" {
  description = "Names of the Secret Manager secrets that hold the cluster key and the admin token; made by hand."
  type        = object({ cluster_key = string, admin_token = string })
}

variable "labels" {
  description = "More labels for everything."
  type        = map(string)
  default     = {}
}
