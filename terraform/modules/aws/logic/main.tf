# What the AWS module decides, without a provider: names, sizes, policies, event patterns. Covered by `terraform test`.

locals {
  partition  = startswith(var.region, "cn-") ? "aws-cn" : startswith(var.region, "us-gov-") ? "aws-us-gov" : "aws"
  queue_name = "${var.name}-notices"
  queue_arn  = "arn:${local.partition}:sqs:${var.region}:${var.account_id}:${local.queue_name}"
  rule_arn   = "arn:${local.partition}:events:${var.region}:${var.account_id}:rule"
  group_arn  = "arn:${local.partition}:autoscaling:${var.region}:${var.account_id}:autoScalingGroup:*:autoScalingGroupName"
  s3         = "arn:${local.partition}:s3:::"

  model_bucket   = split("/", trimprefix(var.model_location, "s3://"))[0]
  model_prefix   = trimsuffix(trimprefix(var.model_location, "s3://${local.model_bucket}/"), "/")
  package_object = trimprefix(var.package_location, "s3://")

  # Each in a zone of its own: what takes one leaves the other.
  pair = var.standby_private_ip != null
  controllers = merge(
    { a = { private_ip = var.controller_private_ip, subnet_id = var.subnet_ids[0] } },
    local.pair ? { b = { private_ip = var.standby_private_ip, subnet_id = try(var.subnet_ids[1], "") } } : {},
  )

  # The two groups differ in how they buy, and in nothing else.
  groups = {
    spot = {
      name                 = "${var.name}-spot"
      size                 = var.spot
      on_demand_percentage = 0
    }
    on-demand = {
      name                 = "${var.name}-on-demand"
      size                 = var.on_demand
      on_demand_percentage = 100
    }
  }

  # What EC2 and the groups say about instances that go.
  event_patterns = {
    spot-warning = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Spot Instance Interruption Warning"]
    }
    rebalance = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Instance Rebalance Recommendation"]
    }
    terminate = {
      source      = ["aws.autoscaling"]
      detail-type = ["EC2 Instance-terminate Lifecycle Action"]
      detail      = { AutoScalingGroupName = [for g in local.groups : g.name] }
    }
  }
  rule_names = { for key in keys(local.event_patterns) : key => "${var.name}-${key}" }

  reads_artifacts = [
    {
      Sid      = "ReadModelAndPackage"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.s3}${local.model_bucket}/${local.model_prefix}/*", "${local.s3}${local.package_object}"]
    },
    {
      Sid      = "ReadSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = values(var.secret_arns)
    },
  ]

  worker_policy = { Version = "2012-10-17", Statement = local.reads_artifacts }

  controller_policy = {
    Version = "2012-10-17"
    Statement = concat(local.reads_artifacts, [
      {
        # Writes are scoped to the groups of this cluster by their names.
        Sid    = "SetGroups"
        Effect = "Allow"
        Action = [
          "autoscaling:SetDesiredCapacity",
          "autoscaling:TerminateInstanceInAutoScalingGroup",
          "autoscaling:CompleteLifecycleAction",
        ]
        Resource = [for g in local.groups : "${local.group_arn}/${g.name}"]
        Condition = {
          StringEquals = { "autoscaling:ResourceTag/godwit-cluster" = var.name }
        }
      },
      {
        Sid      = "HearNotices"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
        Resource = [local.queue_arn]
      },
      {
        # These three cannot be scoped to a resource: AWS takes "*" alone. They read, and tell sizes and prices.
        Sid    = "DescribeUnscoped"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "ec2:DescribeInstances",
          "ec2:DescribeSpotPriceHistory",
        ]
        Resource = ["*"]
      },
    ])
  }

  # EventBridge may write, for these rules alone: without aws:SourceArn any account's rule could.
  queue_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "NoticesFromOurRules"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = local.queue_arn
        Condition = { ArnEquals = { "aws:SourceArn" = [for n in values(local.rule_names) : "${local.rule_arn}/${n}"] } }
      },
      {
        Sid       = "NeverInTheClear"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.queue_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }

  assume_role_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = local.partition == "aws-cn" ? "ec2.amazonaws.com.cn" : "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  }
}
