variables {
  cloud = "aws"
  package = {
    location = "s3://releases/godwit_0.1.0_amd64.deb"
    sha256   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  model = {
    location        = "s3://models/llama-3.2-1b/"
    manifest_sha256 = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
    served_as       = "llama-3.2-1b"
  }
  secrets = {
    cluster_key = "godwit/cluster-key"
    admin_token = "godwit/admin-token"
  }
  controller_address = "10.0.1.10"
}

run "worker_checks_what_it_fetches" {
  command = plan
  assert {
    condition     = strcontains(output.worker, "echo \"${var.package.sha256}  $deb\" | sha256sum --check")
    error_message = "the package is installed unchecked"
  }
  assert {
    condition     = strcontains(output.worker, "echo \"${var.model.manifest_sha256}  $to/SHA256SUMS\" | sha256sum --check")
    error_message = "the model's manifest is taken unchecked"
  }
  assert {
    condition     = strcontains(output.worker, "fetch 's3://models/llama-3.2-1b/SHA256SUMS'")
    error_message = "the model's folder is written with two slashes, or none"
  }
}

run "watch_starts_before_the_model_is_fetched" {
  command = plan
  assert {
    condition     = strcontains(split("fetch_model\ncat", output.worker)[0], "systemctl enable --now godwit-watch")
    error_message = "notices that come while the model is fetched would not be heard"
  }
  assert {
    condition     = strcontains(output.worker, "instance-id = $id\nworker-id = $id")
    error_message = "worker and watch must give the controller the same instance id"
  }
}

run "controller_is_told_of_its_groups_and_keeps_a_journal" {
  command = plan
  variables {
    capacity = {
      spot      = { name = "g-spot", min = 1, max = 8 }
      on_demand = { name = "g-on-demand", min = 0, max = 2 }
      region    = "eu-central-1"
      queue_url = "https://sqs.eu-central-1.amazonaws.com/1/q"
    }
  }
  assert {
    condition     = strcontains(output.controller, "journal = /var/lib/godwit/journal")
    error_message = "without a journal the controller writes no sizes"
  }
  assert {
    condition     = strcontains(output.controller, "cloud = aws\nspot-group = g-spot\nspot-min = 1\nspot-max = 8\non-demand-group = g-on-demand\n")
    error_message = "the groups are not named"
  }
  assert {
    condition     = strcontains(output.controller, "cloud-region = eu-central-1\nnotice-queue = https://sqs.eu-central-1.amazonaws.com/1/q\n")
    error_message = "region or queue is missing"
  }
}

run "controller_without_groups_sets_no_sizes" {
  command = plan
  assert {
    condition     = !strcontains(output.controller, "spot-group") && !strcontains(output.controller, "notice-queue")
    error_message = "groups that nobody named"
  }
}

run "controller_asks_for_a_token" {
  command = plan
  assert {
    condition     = strcontains(output.controller, "admin-token-file = /etc/godwit/admin.token")
    error_message = "the admin listener is off loopback without a token"
  }
}

run "gcp_and_azure_use_their_own_services" {
  command = plan
  variables {
    cloud   = "gcp"
    package = { location = "gs://releases/godwit.deb", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
    model   = { location = "gs://models/x", manifest_sha256 = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210", served_as = "x" }
  }
  assert {
    condition     = strcontains(output.worker, "Metadata-Flavor: Google") && strcontains(output.worker, "cloud = gcp")
    error_message = "not GCP's script"
  }
}

run "location_of_another_cloud_is_refused" {
  command = plan
  variables {
    cloud = "azure"
  }
  expect_failures = [output.worker]
}

run "sum_that_is_none_is_refused" {
  command = plan
  variables {
    package = { location = "s3://releases/godwit.deb", sha256 = "latest" }
  }
  expect_failures = [var.package]
}

run "secret_in_place_of_its_name_is_refused" {
  command = plan
  variables {
    secrets = { cluster_key = "not a name; a secret?", admin_token = "godwit/admin-token" }
  }
  expect_failures = [var.secrets]
}

run "pair_shares_a_journal_and_both_are_dialed" {
  command = plan
  variables {
    standby_address = "10.0.2.10"
    journal         = "rediss://master.godwit.abc123.euc1.cache.amazonaws.com:6379"
  }
  assert {
    condition     = strcontains(output.controller, "journal = rediss://master.godwit.abc123.euc1.cache.amazonaws.com:6379\nstandby = true\n")
    error_message = "the pair does not share its journal"
  }
  assert {
    condition     = strcontains(output.worker, "\ncontroller = 10.0.1.10:8002,10.0.2.10:8002\n")
    error_message = "workers do not dial both"
  }
  assert {
    condition     = strcontains(output.worker, "\ncontroller = http://10.0.1.10:8001,http://10.0.2.10:8001\n")
    error_message = "notices would not reach the second"
  }
}

run "one_controller_waits_for_nobody" {
  command = plan
  assert {
    condition     = !strcontains(output.controller, "standby") && strcontains(output.worker, "\ncontroller = 10.0.1.10:8002\n")
    error_message = "a single controller would wait, or another one be dialed"
  }
}

run "pair_without_a_shared_journal_is_refused" {
  command = plan
  variables {
    standby_address = "10.0.2.10"
  }
  expect_failures = [output.controller]
}

run "journal_in_the_clear_is_refused" {
  command = plan
  variables {
    journal = "redis://10.0.3.3:6379"
  }
  expect_failures = [var.journal]
}

run "host_name_for_the_controller_is_refused" {
  command = plan
  variables {
    controller_address = "controller.internal"
  }
  expect_failures = [var.controller_address]
}

run "cloud_that_is_none_is_refused" {
  command = plan
  variables {
    cloud = "cirrus"
  }
  expect_failures = [var.cloud]
}
