variable "name" {
  description = "Prefix of everything that is made."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 24 lower-case letters, digits and dashes, and begin with a letter."
  }
}

variable "size" {
  description = "VM size of workers."
  type        = string
  validation {
    condition     = can(regex("^Standard_(NV[0-9]+.*A10_v5|NC[0-9]+.*(A100_v4|H100_v5)|ND[0-9]+.*)$", var.size))
    error_message = "size must have GPUs of at least 24 GB: NVads A10 v5, NC A100 v4, NC H100 v5, ND."
  }
}

variable "zones" {
  description = "Availability zones of the sets."
  type        = list(string)
  validation {
    condition     = alltrue([for z in var.zones : contains(["1", "2", "3"], z)])
    error_message = "zones must be of \"1\", \"2\", \"3\"."
  }
}

variable "spot" {
  description = "Bounds and first size of the spot set."
  type        = object({ min = number, max = number, start = number })
  validation {
    condition     = var.spot.min >= 0 && var.spot.min <= var.spot.start && var.spot.start <= var.spot.max && var.spot.max <= 600
    error_message = "spot must have 0 <= min <= start <= max <= 600 (a scale set with an own image holds no more)."
  }
}

variable "on_demand" {
  description = "Bounds and first size of the on-demand set, the fallback."
  type        = object({ min = number, max = number, start = number })
  validation {
    condition     = var.on_demand.min >= 0 && var.on_demand.min <= var.on_demand.start && var.on_demand.start <= var.on_demand.max && var.on_demand.max <= 600
    error_message = "on_demand must have 0 <= min <= start <= max <= 600."
  }
}
