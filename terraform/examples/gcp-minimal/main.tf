# Two spot instances with an L4 in the default network, and the controller.

provider "google" {
  project = var.project
}

module "godwit" {
  source = "../../modules/gcp"

  name                  = "godwit"
  project               = var.project
  network               = "default"
  subnetwork            = "default"
  zones                 = ["europe-west4-a", "europe-west4-b", "europe-west4-c"]
  controller_private_ip = var.controller_private_ip
  client_cidrs          = ["10.128.0.0/9"]
  image                 = var.worker_image
  package               = var.package
  model                 = var.model
  secrets               = { cluster_key = "godwit-cluster-key", admin_token = "godwit-admin-token" }
}
