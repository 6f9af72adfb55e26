# Workers: a template and a group for each way of buying.

resource "google_compute_instance_template" "worker" {
  #checkov:skip=CKV_GCP_32:project-wide SSH keys are blocked below, by metadata
  for_each = module.logic.groups

  name_prefix  = "${each.value.name}-"
  project      = var.project
  region       = module.logic.region
  machine_type = var.machine_type
  tags         = ["${var.name}-worker"]
  labels       = local.labels

  metadata = {
    block-project-ssh-keys = "true"
    startup-script         = module.boot.worker
  }

  disk {
    source_image = var.image
    boot         = true
    auto_delete  = true
    disk_size_gb = var.root_gb
    disk_type    = "pd-balanced"
  }

  network_interface {
    network    = var.network
    subnetwork = var.subnetwork
  }

  scheduling {
    provisioning_model          = each.value.provisioning_model
    preemptible                 = each.value.preemptible
    instance_termination_action = each.value.termination_action
    automatic_restart           = false
    on_host_maintenance         = "TERMINATE" # GPUs do not migrate
  }

  service_account {
    email  = google_service_account.this["worker"].email
    scopes = ["cloud-platform"] # what it may do is its role's matter
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_region_instance_group_manager" "worker" {
  for_each = module.logic.groups

  name                             = each.value.name
  project                          = var.project
  region                           = module.logic.region
  base_instance_name               = each.value.name
  target_size                      = each.value.size.start
  distribution_policy_zones        = var.zones
  distribution_policy_target_shape = "ANY" # spot where there is some
  wait_for_instances               = false

  version {
    instance_template = google_compute_instance_template.worker[each.key].id
  }

  # New templates reach new instances; who goes is the controller's decision.
  update_policy {
    type                         = "OPPORTUNISTIC"
    minimal_action               = "REPLACE"
    instance_redistribution_type = "NONE"
    max_surge_fixed              = 0
    max_unavailable_fixed        = length(var.zones)
  }

  lifecycle {
    ignore_changes = [target_size] # the controller's
  }
}
