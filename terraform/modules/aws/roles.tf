# Who may do what. A worker reads its model and two secrets; the controller also sets its groups and reads its queue.

resource "aws_iam_role" "worker" {
  name_prefix        = "${var.name}-worker-"
  assume_role_policy = module.logic.assume_role_policy
  tags               = local.tags
}

resource "aws_iam_role_policy" "worker" {
  name   = "godwit-worker"
  role   = aws_iam_role.worker.id
  policy = module.logic.worker_policy
}

resource "aws_iam_instance_profile" "worker" {
  name_prefix = "${var.name}-worker-"
  role        = aws_iam_role.worker.name
  tags        = local.tags
}

resource "aws_iam_role" "controller" {
  name_prefix        = "${var.name}-ctl-"
  assume_role_policy = module.logic.assume_role_policy
  tags               = local.tags
}

resource "aws_iam_role_policy" "controller" {
  name = "godwit-controller"
  role = aws_iam_role.controller.id
  # Holds Describe actions on "*": AWS scopes them to nothing else (see logic/main.tf).
  policy = module.logic.controller_policy
}

resource "aws_iam_instance_profile" "controller" {
  name_prefix = "${var.name}-ctl-"
  role        = aws_iam_role.controller.name
  tags        = local.tags
}
