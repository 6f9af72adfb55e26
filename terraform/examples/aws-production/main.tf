# Private subnets in three zones, up to 64 spot instances and 8 on demand, HTTPS for clients through a load balancer, a pair of
# controllers behind it.

provider "aws" {
  region = var.region
}

data "aws_vpc" "this" {
  id = var.vpc_id
}

module "godwit" {
  source = "../../modules/aws"

  name                     = "godwit-prod"
  vpc_id                   = data.aws_vpc.this.id
  subnet_ids               = var.private_subnet_ids
  controller_private_ip    = var.controller_private_ip
  standby_private_ip       = var.standby_private_ip
  redis_node_type          = "cache.m7g.large"
  load_balancer_subnet_ids = var.private_subnet_ids
  certificate_arn          = var.certificate_arn
  client_cidrs             = [data.aws_vpc.this.cidr_block]
  image_id                 = var.worker_image_id
  controller_image_id      = var.controller_image_id
  controller_instance_type = "m7i.2xlarge"
  instance_types           = ["g6e.2xlarge", "g6e.4xlarge", "g6.8xlarge", "g5.8xlarge"]
  spot                     = { min = 2, max = 64, start = 8 }
  on_demand                = { min = 0, max = 8, start = 0 }
  root_gb                  = 100
  package                  = var.package
  model                    = var.model
  secret_arns              = var.secret_arns
  tags                     = { environment = "production" }
}
