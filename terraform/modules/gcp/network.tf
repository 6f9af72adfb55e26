# Who reaches whom: clients the API, workers the controller and each other.

resource "google_compute_firewall" "api" {
  name          = "${var.name}-api"
  project       = var.project
  network       = var.network
  source_ranges = var.client_cidrs
  target_tags   = ["${var.name}-controller"]

  allow {
    protocol = "tcp"
    ports    = ["8000"]
  }
}

resource "google_compute_firewall" "controller" {
  name        = "${var.name}-controller"
  project     = var.project
  network     = var.network
  source_tags = ["${var.name}-worker"]
  target_tags = ["${var.name}-controller"]

  allow {
    protocol = "tcp"
    ports    = ["8001", "8002"]
  }
}

resource "google_compute_firewall" "workers" {
  name        = "${var.name}-workers"
  project     = var.project
  network     = var.network
  source_tags = ["${var.name}-worker"]
  target_tags = ["${var.name}-worker"]

  allow {
    protocol = "tcp"
    ports    = ["1024-65535"]
  }
}
