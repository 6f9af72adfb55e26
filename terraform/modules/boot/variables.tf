variable "cloud" {
  description = "Which cloud's metadata, storage and secrets the script uses: aws, gcp or azure."
  type        = string
  validation {
    condition     = contains(["aws", "gcp", "azure"], var.cloud)
    error_message = "cloud must be aws, gcp or azure."
  }
}

variable "package" {
  description = "Where the Godwit .deb is (an object in the cloud's storage, as model below), and its SHA-256."
  type = object({
    location = string
    sha256   = string
  })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package.sha256))
    error_message = "package.sha256 must be 64 lower-case hex digits: what is installed must be what you built."
  }
}

variable "model" {
  description = "A folder in the cloud's storage with the model's files and a SHA256SUMS of them, and the SHA-256 of that."
  type = object({
    location         = string
    manifest_sha256  = string
    served_as        = string
    local_nvme_mount = optional(string, "/var/lib/godwit-models")
  })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.model.manifest_sha256))
    error_message = "model.manifest_sha256 must be 64 lower-case hex digits."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", var.model.served_as))
    error_message = "model.served_as must be a plain name: letters, digits, '.', '_', '-'."
  }
}

variable "locations" {
  description = "How this cloud writes a location: the pattern that package.location and model.location must match."
  type        = map(string)
  default = {
    aws   = "^s3://[a-z0-9.-]+/[A-Za-z0-9/._+-]+$"
    gcp   = "^gs://[a-z0-9._-]+/[A-Za-z0-9/._+-]+$"
    azure = "^https://[a-z0-9]+\\.blob\\.core\\.windows\\.net/[A-Za-z0-9/._+-]+$"
  }
}

variable "secrets" {
  description = "Names of the secrets that hold the cluster key and the admin token. Never the secrets themselves."
  type = object({
    cluster_key = string
    admin_token = string
  })
  validation {
    condition     = alltrue([for name in values(var.secrets) : can(regex("^[A-Za-z0-9:/._+=@-]{1,512}$", name))])
    error_message = "secrets are named by their name, ARN or URL; a value with other characters is not a name."
  }
}

variable "controller_address" {
  description = "Private IPv4 address of the controller: workers dial it, and names are not resolved."
  type        = string
  validation {
    condition     = can(cidrhost("${var.controller_address}/32", 0))
    error_message = "controller_address must be an IPv4 address."
  }
}

variable "standby_address" {
  description = "Private IPv4 address of a second controller, which waits until the first has gone; \"\": there is none."
  type        = string
  default     = ""
  validation {
    condition     = var.standby_address == "" || can(cidrhost("${var.standby_address}/32", 0))
    error_message = "standby_address must be an IPv4 address, or empty."
  }
}

variable "journal" {
  description = "Where the controller keeps its journal: a folder, or rediss://HOST:PORT for a pair."
  type        = string
  default     = "/var/lib/godwit/journal"
  validation {
    condition     = can(regex("^(/[A-Za-z0-9/._-]+|rediss://[A-Za-z0-9.-]+:[0-9]{1,5})$", var.journal))
    error_message = "journal must be a folder's absolute path, or rediss://HOST:PORT."
  }
}

variable "notice_s" {
  description = "How long the cloud's notice is: what a worker told by SIGTERM has for handing its requests over."
  type        = number
  default     = 30
  validation {
    condition     = var.notice_s >= 5 && var.notice_s <= 600
    error_message = "notice_s must be between 5 and 600."
  }
}

variable "hook_s" {
  description = "AWS: how long the terminate hook waits."
  type        = number
  default     = 90
}

variable "capacity" {
  description = "The two groups whose sizes the controller sets, named as the cloud's API takes them; AWS: also region, notice queue and how long the terminate hook waits. null: sizes are set by hand."
  type = object({
    spot      = object({ name = string, min = number, max = number })
    on_demand = object({ name = string, min = number, max = number })
    region    = optional(string, "")
    queue_url = optional(string, "")
    hook_s    = optional(number, 90)
  })
  default = null
}
