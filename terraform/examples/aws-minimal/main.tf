# Two spot instances with an L4 or A10G in the default VPC, and the controller. The API is plain HTTP inside the VPC.

provider "aws" {
  region = var.region
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

data "aws_subnet" "first" {
  id = sort(data.aws_subnets.default.ids)[0]
}

data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"] # Debian

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

module "godwit" {
  source = "../../modules/aws"

  name                  = "godwit"
  vpc_id                = data.aws_vpc.default.id
  subnet_ids            = sort(data.aws_subnets.default.ids)
  controller_private_ip = cidrhost(data.aws_subnet.first.cidr_block, 10)
  client_cidrs          = [data.aws_vpc.default.cidr_block]
  image_id              = var.worker_image_id
  controller_image_id   = data.aws_ami.debian.id
  package               = var.package
  model                 = var.model
  secret_arns           = var.secret_arns
}
