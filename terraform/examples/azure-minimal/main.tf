# Two spot instances with an A10 in a network of their own, and the controller.

provider "azurerm" {
  features {}
}

resource "azurerm_resource_group" "this" {
  name     = "godwit"
  location = var.location
}

resource "azurerm_virtual_network" "this" {
  name                = "godwit"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = ["10.40.0.0/16"]
}

# The sets' network interfaces carry the security groups; the subnet has none of its own.
resource "azurerm_subnet" "this" {
  #checkov:skip=CKV2_AZURE_31:each network interface has a security group that ends in a denial
  name                 = "godwit"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = ["10.40.0.0/20"]
}

module "godwit" {
  source = "../../modules/azure"

  name                  = "godwit"
  resource_group_name   = azurerm_resource_group.this.name
  location              = azurerm_resource_group.this.location
  subnet_id             = azurerm_subnet.this.id
  subnet_cidr           = azurerm_subnet.this.address_prefixes[0]
  controller_private_ip = "10.40.0.10"
  client_cidrs          = azurerm_virtual_network.this.address_space
  image_id              = var.worker_image_id
  controller_image_id   = var.controller_image_id
  ssh_public_key        = var.ssh_public_key
  package               = var.package
  model                 = var.model
  storage_container_ids = var.storage_container_ids
  secrets               = var.secrets
}
