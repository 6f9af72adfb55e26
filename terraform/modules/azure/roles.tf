# Who may do what. A worker reads its containers and two secrets; the controller also sets its scale sets.

locals {
  roles = ["worker", "controller"]
}

resource "azurerm_user_assigned_identity" "this" {
  for_each = toset(local.roles)

  name                = "${var.name}-${each.key}"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "blobs" {
  for_each = { for pair in setproduct(local.roles, range(length(var.storage_container_ids))) : "${pair[0]}-${pair[1]}" => pair }

  scope                = var.storage_container_ids[each.value[1]]
  role_definition_name = "Storage Blob Data Reader"
  principal_id         = azurerm_user_assigned_identity.this[each.value[0]].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "secrets" {
  for_each = { for pair in setproduct(local.roles, keys(var.secrets)) : "${pair[0]}-${pair[1]}" => pair }

  scope                = var.secrets[each.value[1]].id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.this[each.value[0]].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_definition" "controller" {
  for_each = azurerm_linux_virtual_machine_scale_set.worker

  name        = "${each.value.name}-controller"
  scope       = each.value.id
  description = "Sets the size of its scale set and deletes named instances of it"

  permissions {
    actions = module.logic.controller_actions
  }
}

resource "azurerm_role_assignment" "controller" {
  for_each = azurerm_linux_virtual_machine_scale_set.worker

  scope              = each.value.id
  role_definition_id = azurerm_role_definition.controller[each.key].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.this["controller"].principal_id
  principal_type     = "ServicePrincipal"
}
