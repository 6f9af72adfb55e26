# Who reaches whom: clients the API, the subnet the worker port and notices. Azure's own rules let a virtual network talk
# to itself: a last rule takes that back.

locals {
  rules = {
    worker = {
      peers = { priority = 100, access = "Allow", ports = ["1024-65535"], from = [var.subnet_cidr] }
    }
    controller = {
      api     = { priority = 100, access = "Allow", ports = ["8000"], from = var.client_cidrs }
      workers = { priority = 110, access = "Allow", ports = ["8001", "8002"], from = [var.subnet_cidr] }
    }
  }
}

resource "azurerm_network_security_group" "this" {
  for_each = local.rules

  name                = "${var.name}-${each.key}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = local.tags

  dynamic "security_rule" {
    for_each = each.value
    content {
      name                       = security_rule.key
      priority                   = security_rule.value.priority
      direction                  = "Inbound"
      access                     = security_rule.value.access
      protocol                   = "Tcp"
      source_port_range          = "*"
      destination_port_ranges    = security_rule.value.ports
      source_address_prefixes    = security_rule.value.from
      destination_address_prefix = "*"
    }
  }

  security_rule {
    name                       = "nothing-else"
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_port_range          = "*"
    destination_port_range     = "*"
    source_address_prefix      = "*"
    destination_address_prefix = "*"
  }
}
