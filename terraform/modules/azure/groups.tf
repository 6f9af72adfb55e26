# Workers: a scale set for each way of buying.

resource "azurerm_linux_virtual_machine_scale_set" "worker" {
  #checkov:skip=CKV_AZURE_97:encryption at host must be switched on for the subscription first
  for_each = module.logic.groups

  name                         = each.value.name
  resource_group_name          = var.resource_group_name
  location                     = var.location
  sku                          = var.size
  instances                    = each.value.size.start
  zones                        = var.zones
  priority                     = each.value.priority
  eviction_policy              = each.value.eviction_policy
  max_bid_price                = each.value.max_bid_price
  source_image_id              = var.image_id
  custom_data                  = base64encode(module.boot.worker)
  overprovision                = false    # a surplus instance would load a model and be taken away
  upgrade_mode                 = "Manual" # who goes is the controller's decision
  single_placement_group       = false
  extension_operations_enabled = false

  admin_username                  = "godwit-admin"
  disable_password_authentication = true

  admin_ssh_key {
    username   = "godwit-admin"
    public_key = var.ssh_public_key
  }

  # Deletions by the set are scheduled events too: godwit-watch hears them, and acknowledges once drained.
  termination_notification {
    enabled = true
    timeout = "PT5M"
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["worker"].id]
  }

  network_interface {
    name                          = "worker"
    primary                       = true
    enable_accelerated_networking = true
    network_security_group_id     = azurerm_network_security_group.this["worker"].id

    ip_configuration {
      name      = "worker"
      primary   = true
      subnet_id = var.subnet_id
    }
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "Premium_LRS"
    disk_size_gb         = var.root_gb
  }

  tags = local.tags

  lifecycle {
    ignore_changes = [instances] # the controller's
  }
}
