# The controller: one on-demand instance with a fixed address, restarted elsewhere when its host fails.

resource "google_compute_address" "controller" {
  name         = "${var.name}-controller"
  project      = var.project
  region       = module.logic.region
  subnetwork   = var.subnetwork
  address_type = "INTERNAL"
  address      = var.controller_private_ip
}

resource "google_compute_instance" "controller" {
  #checkov:skip=CKV_GCP_38:disks are encrypted with Google's keys; a team that wants its own sets the project's default
  name         = "${var.name}-controller"
  project      = var.project
  zone         = var.zones[0]
  machine_type = var.controller_machine_type
  tags         = ["${var.name}-controller"]
  labels       = local.labels

  metadata = {
    block-project-ssh-keys = "true"
    startup-script         = module.boot.controller
  }

  boot_disk {
    initialize_params {
      image = var.controller_image
      size  = var.root_gb
      type  = "pd-balanced"
    }
  }

  network_interface {
    network    = var.network
    subnetwork = var.subnetwork
    network_ip = google_compute_address.controller.address
  }

  service_account {
    email  = google_service_account.this["controller"].email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }
}
