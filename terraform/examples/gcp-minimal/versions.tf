terraform {
  required_version = ">= 1.7"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50" # what tests/terraform/schema.json describes
    }
  }
}
