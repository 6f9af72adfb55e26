# Godwit on Azure: a spot scale set and its on-demand fallback, and the controller. What is decided, is in ./logic and
# ../boot.

locals {
  tags = merge(var.tags, { godwit-cluster = var.name })
}

module "logic" {
  source = "./logic"

  name      = var.name
  size      = var.size
  zones     = var.zones
  spot      = var.spot
  on_demand = var.on_demand
}

module "boot" {
  source = "../boot"

  cloud   = "azure"
  package = var.package
  model   = var.model
  secrets = {
    cluster_key = var.secrets.cluster_key.url
    admin_token = var.secrets.admin_token.url
  }
  controller_address = var.controller_private_ip
  notice_s           = 30

  # Scale sets are named by their whole ids there.
  capacity = {
    region = lower(replace(var.location, " ", "")) # whose spot prices are asked for
    spot = {
      name = trimprefix(azurerm_linux_virtual_machine_scale_set.worker["spot"].id, "/")
      min  = var.spot.min
      max  = var.spot.max
    }
    on_demand = {
      name = trimprefix(azurerm_linux_virtual_machine_scale_set.worker["on-demand"].id, "/")
      min  = var.on_demand.min
      max  = var.on_demand.max
    }
  }
}
