variable "name" {
  description = "Prefix of everything that is made."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 24 lower-case letters, digits and dashes, and begin with a letter."
  }
}

variable "account_id" {
  description = "The account that everything lies in."
  type        = string
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  description = "The region that everything lies in."
  type        = string
}

variable "instance_types" {
  description = "GPU types that the groups may use, the preferred first. Spot is held by choice: several types in several zones."
  type        = list(string)
  validation {
    condition     = length(var.instance_types) >= 1 && length(var.instance_types) <= 16
    error_message = "instance_types must have 1 to 16 types."
  }
  validation {
    condition     = alltrue([for t in var.instance_types : can(regex("^(g5|g6|g6e|gr6|p4d|p4de|p5|p5e|p5en|p6-b200)\\.", t))])
    error_message = "instance_types must have GPUs of at least 24 GB: g5 (A10G), g6 (L4), g6e (L40S), p4d, p5, p6."
  }
  validation {
    condition     = length(var.instance_types) == length(distinct(var.instance_types))
    error_message = "instance_types must differ."
  }
}

variable "subnet_ids" {
  description = "One private subnet per zone."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) >= 1 && alltrue([for s in var.subnet_ids : startswith(s, "subnet-")])
    error_message = "subnet_ids must name at least one subnet."
  }
}

variable "controller_private_ip" {
  description = "Address of the controller, of the first subnet."
  type        = string
  validation {
    condition     = can(cidrhost("${var.controller_private_ip}/32", 0))
    error_message = "controller_private_ip must be an IPv4 address."
  }
}

variable "standby_private_ip" {
  description = "Address of the second controller, of the second subnet; null: there is one."
  type        = string
  default     = null
  validation {
    condition     = var.standby_private_ip == null || can(cidrhost("${var.standby_private_ip}/32", 0))
    error_message = "standby_private_ip must be an IPv4 address, or null."
  }
}

variable "load_balanced" {
  description = "Is there a load balancer?"
  type        = bool
  default     = false
}

variable "spot" {
  description = "Bounds of the spot group; the controller sets the size between them."
  type        = object({ min = number, max = number, start = number })
  validation {
    condition     = var.spot.min >= 0 && var.spot.min <= var.spot.start && var.spot.start <= var.spot.max && var.spot.max <= 1000
    error_message = "spot must have 0 <= min <= start <= max <= 1000."
  }
}

variable "on_demand" {
  description = "Bounds of the on-demand group, the fallback when spot stays short."
  type        = object({ min = number, max = number, start = number })
  default     = { min = 0, max = 2, start = 0 }
  validation {
    condition     = var.on_demand.min >= 0 && var.on_demand.min <= var.on_demand.start && var.on_demand.start <= var.on_demand.max && var.on_demand.max <= 1000
    error_message = "on_demand must have 0 <= min <= start <= max <= 1000."
  }
}

variable "terminate_hook_s" {
  description = "How long an instance that a group ends is kept for the hand-over: less than the two minutes of spot."
  type        = number
  default     = 100
  validation {
    condition     = var.terminate_hook_s >= 30 && var.terminate_hook_s <= 100
    error_message = "terminate_hook_s must be 30 to 100: behind that the instance is gone, whatever the hook says."
  }
}

variable "model_location" {
  description = "s3://BUCKET/PREFIX of the model."
  type        = string
  validation {
    condition     = can(regex("^s3://[a-z0-9.-]{3,63}/[A-Za-z0-9/._+-]+$", var.model_location))
    error_message = "model_location must be s3://BUCKET/PREFIX: a whole bucket is more than a worker needs."
  }
}

variable "package_location" {
  description = "s3://BUCKET/KEY of the .deb."
  type        = string
  validation {
    condition     = can(regex("^s3://[a-z0-9.-]{3,63}/[A-Za-z0-9/._+-]+\\.deb$", var.package_location))
    error_message = "package_location must be s3://BUCKET/KEY.deb."
  }
}

variable "secret_arns" {
  description = "ARNs of the secrets that hold the cluster key and the admin token. They are made by hand: terraform never sees them."
  type        = object({ cluster_key = string, admin_token = string })
  validation {
    condition     = alltrue([for a in values(var.secret_arns) : can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$", a))])
    error_message = "secret_arns must be ARNs of Secrets Manager secrets."
  }
}
