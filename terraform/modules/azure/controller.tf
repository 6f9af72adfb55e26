# The controller: one on-demand instance with a fixed address.

resource "azurerm_network_interface" "controller" {
  name                = "${var.name}-controller"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = local.tags

  ip_configuration {
    name                          = "controller"
    subnet_id                     = var.subnet_id
    private_ip_address_allocation = "Static"
    private_ip_address            = var.controller_private_ip
  }
}

resource "azurerm_network_interface_security_group_association" "controller" {
  network_interface_id      = azurerm_network_interface.controller.id
  network_security_group_id = azurerm_network_security_group.this["controller"].id
}

resource "azurerm_linux_virtual_machine" "controller" {
  name                       = "${var.name}-controller"
  resource_group_name        = var.resource_group_name
  location                   = var.location
  size                       = var.controller_size
  source_image_id            = var.controller_image_id
  custom_data                = base64encode(module.boot.controller)
  network_interface_ids      = [azurerm_network_interface.controller.id]
  allow_extension_operations = false

  admin_username                  = "godwit-admin"
  disable_password_authentication = true

  admin_ssh_key {
    username   = "godwit-admin"
    public_key = var.ssh_public_key
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["controller"].id]
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "Premium_LRS"
    disk_size_gb         = var.root_gb
  }

  tags = local.tags
}
