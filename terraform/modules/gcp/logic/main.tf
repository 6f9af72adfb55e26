# What the GCP module decides, without a provider: sizes, how each group buys, who reads what.

locals {
  region = substr(var.zones[0], 0, length(var.zones[0]) - 2)

  groups = {
    spot = {
      name               = "${var.name}-spot"
      size               = var.spot
      provisioning_model = "SPOT"
      preemptible        = true
      termination_action = "DELETE" # a stopped one would be billed for its disk, and come back with old state
    }
    on-demand = {
      name               = "${var.name}-on-demand"
      size               = var.on_demand
      provisioning_model = "STANDARD"
      preemptible        = false
      termination_action = null
    }
  }

  buckets = distinct([for l in var.bucket_locations : split("/", l)[2]])
  # IAM conditions scope a bucket's readers to prefixes.
  read_condition = join(" || ", [
    for l in var.bucket_locations :
    "resource.name.startsWith('projects/_/buckets/${split("/", l)[2]}/objects/${join("/", slice(split("/", trimsuffix(l, "/")), 3, length(split("/", trimsuffix(l, "/")))))}')"
  ])

  controller_permissions = [
    "compute.instanceGroupManagers.get",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.list",
  ]
}
