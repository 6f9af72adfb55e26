output "worker" {
  description = "User data of a worker: a shell script."
  value       = "#!/bin/bash\n${templatefile("${path.module}/templates/worker.sh.tftpl", merge(local.common, { steps = local.common_steps }))}"

  precondition {
    condition     = can(regex(var.locations[var.cloud], var.package.location)) && can(regex(var.locations[var.cloud], var.model.location))
    error_message = "package.location and model.location must be written as ${var.cloud} does: ${var.locations[var.cloud]}"
  }
}

output "controller" {
  description = "User data of the controller: a shell script."
  value       = "#!/bin/bash\n${templatefile("${path.module}/templates/controller.sh.tftpl", merge(local.common, { steps = local.common_steps, capacity = var.capacity, journal = var.journal, standby = var.standby_address != "" }))}"

  precondition {
    condition     = var.standby_address == "" || startswith(var.journal, "rediss://")
    error_message = "Two controllers need a journal that both reach: rediss://HOST:PORT."
  }
}
