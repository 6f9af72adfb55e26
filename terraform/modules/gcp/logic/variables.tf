variable "name" {
  description = "Prefix of everything that is made."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 20 lower-case letters, digits and dashes: accounts' names are short."
  }
}

variable "machine_type" {
  description = "Machine type of workers."
  type        = string
  validation {
    condition     = can(regex("^(g2|g4|a2|a3|a4)-", var.machine_type))
    error_message = "machine_type must have GPUs of at least 24 GB: g2 (L4), a2 (A100), a3 (H100), a4 (B200)."
  }
}

variable "zones" {
  description = "Zones of the groups."
  type        = list(string)
  validation {
    condition     = length(var.zones) >= 1 && alltrue([for z in var.zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", z))])
    error_message = "zones must name zones, such as europe-west4-a."
  }
  validation {
    condition     = length(distinct([for z in var.zones : substr(z, 0, length(z) - 2)])) == 1
    error_message = "zones must lie in one region."
  }
}

variable "spot" {
  description = "Bounds and first size of the spot group."
  type        = object({ min = number, max = number, start = number })
  validation {
    condition     = var.spot.min >= 0 && var.spot.min <= var.spot.start && var.spot.start <= var.spot.max && var.spot.max <= 1000
    error_message = "spot must have 0 <= min <= start <= max <= 1000."
  }
}

variable "on_demand" {
  description = "Bounds and first size of the on-demand group, the fallback."
  type        = object({ min = number, max = number, start = number })
  validation {
    condition     = var.on_demand.min >= 0 && var.on_demand.min <= var.on_demand.start && var.on_demand.start <= var.on_demand.max && var.on_demand.max <= 1000
    error_message = "on_demand must have 0 <= min <= start <= max <= 1000."
  }
}

variable "bucket_locations" {
  description = "gs:// locations of the package and the model."
  type        = list(string)
  validation {
    condition     = alltrue([for l in var.bucket_locations : can(regex("^gs://[a-z0-9._-]+/[A-Za-z0-9/._+-]+$", l))])
    error_message = "locations must be gs://BUCKET/PATH."
  }
}
