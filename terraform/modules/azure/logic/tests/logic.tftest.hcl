variables {
  name      = "godwit-test"
  size      = "Standard_NV36ads_A10_v5"
  zones     = ["1", "2"]
  spot      = { min = 0, max = 8, start = 2 }
  on_demand = { min = 0, max = 2, start = 0 }
}

run "spot_is_deleted_and_never_outbid" {
  command = plan
  assert {
    condition     = output.groups["spot"].eviction_policy == "Delete" && output.groups["spot"].max_bid_price == -1
    error_message = "spot would be deallocated, or evicted for its price"
  }
  assert {
    condition     = output.groups["on-demand"].priority == "Regular" && output.groups["on-demand"].eviction_policy == null
    error_message = "the fallback is spot too"
  }
}

run "controller_deletes_instances_not_sets" {
  command = plan
  assert {
    condition     = !contains(output.controller_actions, "Microsoft.Compute/virtualMachineScaleSets/delete") && !anytrue([for a in output.controller_actions : strcontains(a, "*")])
    error_message = "the controller may delete whole sets"
  }
}

run "sizes_without_large_gpus_are_refused" {
  command = plan
  variables {
    size = "Standard_NC4as_T4_v3"
  }
  expect_failures = [var.size]
}

run "zones_that_are_none_are_refused" {
  command = plan
  variables {
    zones = ["4"]
  }
  expect_failures = [var.zones]
}

run "sizes_out_of_order_are_refused" {
  command = plan
  variables {
    spot = { min = 1, max = 8, start = 0 }
  }
  expect_failures = [var.spot]
}
