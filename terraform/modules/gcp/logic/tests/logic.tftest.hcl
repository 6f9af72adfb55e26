variables {
  name             = "godwit-test"
  machine_type     = "g2-standard-8"
  zones            = ["europe-west4-a", "europe-west4-b"]
  spot             = { min = 0, max = 8, start = 2 }
  on_demand        = { min = 0, max = 2, start = 0 }
  bucket_locations = ["gs://models/llama/", "gs://releases/godwit.deb"]
}

run "spot_instances_are_deleted_not_stopped" {
  command = plan
  assert {
    condition     = output.groups["spot"].termination_action == "DELETE" && output.groups["spot"].preemptible
    error_message = "spot instances would be kept stopped"
  }
  assert {
    condition     = output.groups["on-demand"].provisioning_model == "STANDARD" && !output.groups["on-demand"].preemptible
    error_message = "the fallback is spot too"
  }
}

run "reading_is_scoped_to_package_and_model" {
  command = plan
  assert {
    condition     = output.read_condition == "resource.name.startsWith('projects/_/buckets/models/objects/llama') || resource.name.startsWith('projects/_/buckets/releases/objects/godwit.deb')"
    error_message = "the condition is ${output.read_condition}"
  }
  assert {
    condition     = output.region == "europe-west4" && output.buckets == tolist(["models", "releases"])
    error_message = "region or buckets are wrong"
  }
}

run "zones_of_two_regions_are_refused" {
  command = plan
  variables {
    zones = ["europe-west4-a", "us-central1-a"]
  }
  expect_failures = [var.zones]
}

run "machines_without_gpus_are_refused" {
  command = plan
  variables {
    machine_type = "n2-standard-8"
  }
  expect_failures = [var.machine_type]
}

run "sizes_out_of_order_are_refused" {
  command = plan
  variables {
    on_demand = { min = 2, max = 1, start = 2 }
  }
  expect_failures = [var.on_demand]
}
