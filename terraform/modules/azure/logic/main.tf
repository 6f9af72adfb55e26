# What the Azure module decides, without a provider: sizes, how each set buys, what the controller may do.

locals {
  groups = {
    spot = {
      name            = "${var.name}-spot"
      size            = var.spot
      priority        = "Spot"
      eviction_policy = "Delete" # a deallocated one would be billed for its disk, and come back with old state
      max_bid_price   = -1       # up to the on-demand price: evicted for capacity, never for price
    }
    on-demand = {
      name            = "${var.name}-on-demand"
      size            = var.on_demand
      priority        = "Regular"
      eviction_policy = null
      max_bid_price   = null
    }
  }

  controller_actions = [
    "Microsoft.Compute/virtualMachineScaleSets/read",
    "Microsoft.Compute/virtualMachineScaleSets/write",
    "Microsoft.Compute/virtualMachineScaleSets/delete/action",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
  ]
}
