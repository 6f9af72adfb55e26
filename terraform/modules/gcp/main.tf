# Godwit on GCP: a spot group and its on-demand fallback, and the controller. What is decided, is in ./logic and ../boot.

locals {
  labels   = merge(var.labels, { godwit-cluster = var.name })
  managers = "projects/${var.project}/regions/${module.logic.region}/instanceGroupManagers"
}

module "logic" {
  source = "./logic"

  name             = var.name
  machine_type     = var.machine_type
  zones            = var.zones
  spot             = var.spot
  on_demand        = var.on_demand
  bucket_locations = [var.package.location, var.model.location]
}

module "boot" {
  source = "../boot"

  cloud   = "gcp"
  package = var.package
  model   = var.model
  secrets = {
    cluster_key = "projects/${var.project}/secrets/${var.secrets.cluster_key}"
    admin_token = "projects/${var.project}/secrets/${var.secrets.admin_token}"
  }
  controller_address = var.controller_private_ip

  capacity = {
    spot      = { name = "${local.managers}/${module.logic.groups["spot"].name}", min = var.spot.min, max = var.spot.max }
    on_demand = { name = "${local.managers}/${module.logic.groups["on-demand"].name}", min = var.on_demand.min, max = var.on_demand.max }
  }

  notice_s = 30 # no provider version of this line sets a longer one (preemptionNoticeDuration)
}
