# Godwit on AWS: a spot group and its on-demand fallback, the notice queue, the controller. What is decided, is in
# ./logic and ../boot; here are the resources.

data "aws_caller_identity" "this" {}

data "aws_region" "this" {}

locals {
  tags = merge(var.tags, { godwit-cluster = var.name })
}

module "logic" {
  source = "./logic"

  name             = var.name
  account_id       = data.aws_caller_identity.this.account_id
  region           = data.aws_region.this.region
  instance_types   = var.instance_types
  subnet_ids       = var.subnet_ids
  load_balanced    = var.certificate_arn != null
  spot             = var.spot
  on_demand        = var.on_demand
  terminate_hook_s = var.terminate_hook_s
  model_location   = var.model.location
  package_location = var.package.location
  secret_arns      = var.secret_arns

  controller_private_ip = var.controller_private_ip
  standby_private_ip    = var.standby_private_ip
}

module "boot" {
  source = "../boot"

  cloud   = "aws"
  package = var.package
  model   = var.model
  secrets = {
    cluster_key = var.secret_arns.cluster_key
    admin_token = var.secret_arns.admin_token
  }
  controller_address = var.controller_private_ip
  standby_address    = var.standby_private_ip == null ? "" : var.standby_private_ip
  journal            = local.journal
  hook_s             = var.terminate_hook_s - 10 # what is left when the watch sees it

  capacity = {
    spot      = { name = module.logic.groups["spot"].name, min = var.spot.min, max = var.spot.max }
    on_demand = { name = module.logic.groups["on-demand"].name, min = var.on_demand.min, max = var.on_demand.max }
    region    = data.aws_region.this.name
    queue_url = aws_sqs_queue.notices.url
    hook_s    = var.terminate_hook_s - 10
  }
}
