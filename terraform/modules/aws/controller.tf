# The controller: an on-demand instance with a fixed address, or two with a journal in common, of which one serves and the other
# waits. EC2 restarts each on other hardware when its host fails.

resource "aws_instance" "controller" {
  for_each = module.logic.controllers

  ami                    = var.controller_image_id
  instance_type          = var.controller_instance_type
  subnet_id              = each.value.subnet_id
  private_ip             = each.value.private_ip
  vpc_security_group_ids = [aws_security_group.controller.id]
  iam_instance_profile   = aws_iam_instance_profile.controller.name
  user_data              = module.boot.controller
  ebs_optimized          = true
  monitoring             = true

  # The new one needs the old one's address.
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  maintenance_options {
    auto_recovery = "default"
  }

  root_block_device {
    volume_size = var.root_gb
    volume_type = "gp3"
    encrypted   = true
  }

  tags        = merge(local.tags, { Name = "${var.name}-controller-${each.key}" })
  volume_tags = local.tags
}

resource "aws_lb" "api" {
  #checkov:skip=CKV_AWS_91:access logs name a bucket of the team's; an own aws_lb_listener serves teams that want them
  #checkov:skip=CKV2_AWS_28:a web application firewall is the team's choice; the front bounds and checks requests itself
  #checkov:skip=CKV_AWS_150:the module must be able to take away what it made
  count = var.certificate_arn == null ? 0 : 1

  name                       = var.name
  internal                   = var.internal
  load_balancer_type         = "application"
  subnets                    = var.load_balancer_subnet_ids
  security_groups            = [aws_security_group.load_balancer[0].id]
  idle_timeout               = 1200 # a stream may be silent while capacity is awaited: ten minutes, and room
  drop_invalid_header_fields = true
  tags                       = local.tags

  lifecycle {
    precondition {
      condition     = length(var.load_balancer_subnet_ids) >= 2
      error_message = "A load balancer needs load_balancer_subnet_ids in two zones."
    }
  }
}

resource "aws_lb_target_group" "api" {
  #checkov:skip=CKV_AWS_378:behind the load balancer the API is plain HTTP inside the VPC until the front speaks TLS
  count = var.certificate_arn == null ? 0 : 1

  name                 = var.name
  port                 = 8000
  protocol             = "HTTP"
  vpc_id               = var.vpc_id
  deregistration_delay = 300
  tags                 = local.tags

  # Who waits for the journal does not listen yet: of a pair the one that serves is healthy.
  health_check {
    path                = "/health"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
    matcher             = "200"
  }
}

resource "aws_lb_target_group_attachment" "api" {
  for_each = { for key, instance in aws_instance.controller : key => instance.id if var.certificate_arn != null }

  target_group_arn = aws_lb_target_group.api[0].arn
  target_id        = each.value
  port             = 8000
}

resource "aws_lb_listener" "api" {
  count = var.certificate_arn == null ? 0 : 1

  load_balancer_arn = aws_lb.api[0].arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api[0].arn
  }
}
