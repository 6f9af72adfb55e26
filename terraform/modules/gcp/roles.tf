# Who may do what. A worker reads its model and two secrets; the controller also sets its groups.

resource "google_service_account" "this" {
  for_each = toset(["worker", "controller"])

  project      = var.project
  account_id   = "${var.name}-${each.key == "worker" ? "worker" : "ctl"}"
  display_name = "Godwit ${var.name} ${each.key}"
}

resource "google_storage_bucket_iam_member" "read" {
  for_each = { for pair in setproduct(["worker", "controller"], module.logic.buckets) : "${pair[0]}-${pair[1]}" => pair }

  bucket = each.value[1]
  role   = "roles/storage.objectViewer"
  member = google_service_account.this[each.value[0]].member

  condition {
    title      = "godwit-${var.name}"
    expression = module.logic.read_condition
  }
}

resource "google_secret_manager_secret_iam_member" "read" {
  for_each = { for pair in setproduct(["worker", "controller"], values(var.secrets)) : "${pair[0]}-${pair[1]}" => pair }

  project   = var.project
  secret_id = each.value[1]
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this[each.value[0]].member
}

resource "google_project_iam_custom_role" "controller" {
  project     = var.project
  role_id     = replace("${var.name}_controller", "-", "_")
  title       = "Godwit ${var.name} controller"
  description = "Sets the sizes of its groups and deletes named instances of them"
  permissions = module.logic.controller_permissions
}

# Groups have no policy of their own: the role holds for the project, the condition for names that begin with ours.
resource "google_project_iam_member" "controller" {
  project = var.project
  role    = google_project_iam_custom_role.controller.id
  member  = google_service_account.this["controller"].member

  condition {
    title      = "godwit-${var.name}"
    expression = "resource.name.extract('/instanceGroupManagers/{name}').startsWith('${var.name}-') || resource.name.extract('/instances/{name}').startsWith('${var.name}-')"
  }
}
