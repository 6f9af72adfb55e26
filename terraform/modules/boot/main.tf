# What instances run when they start, as text: no resource, no provider. Secrets are named in it and fetched by it.

locals {
  controllers = compact([var.controller_address, var.standby_address])
  common = {
    cloud              = var.cloud
    package_location   = var.package.location
    package_sha256     = var.package.sha256
    model_location     = trimsuffix(var.model.location, "/")
    manifest_sha256    = var.model.manifest_sha256
    model_name         = var.model.served_as
    models             = var.model.local_nvme_mount
    cluster_key_secret = var.secrets.cluster_key
    admin_token_secret = var.secrets.admin_token
    dialed_controllers = join(",", [for a in local.controllers : "${a}:8002"])
    told_controllers   = join(",", [for a in local.controllers : "http://${a}:8001"])
    notice_s           = var.notice_s
    hook_s             = var.hook_s
  }
  fetch        = file("${path.module}/templates/fetch-${var.cloud}.sh")
  common_steps = templatefile("${path.module}/templates/common.sh.tftpl", merge(local.common, { fetch = local.fetch }))
}
