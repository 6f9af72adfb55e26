# Notices off the instance: EventBridge rules into one queue, which the controller reads.

resource "aws_sqs_queue" "notices" {
  name                       = module.logic.queue_name
  message_retention_seconds  = 3600 # a notice of an hour ago is of no use
  visibility_timeout_seconds = 30
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
  tags                       = local.tags
}

resource "aws_sqs_queue_policy" "notices" {
  queue_url = aws_sqs_queue.notices.id
  policy    = module.logic.queue_policy
}

resource "aws_cloudwatch_event_rule" "notice" {
  for_each = module.logic.event_patterns

  name          = module.logic.rule_names[each.key]
  description   = "Godwit ${var.name}: ${each.key}"
  event_pattern = each.value
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "notice" {
  for_each = aws_cloudwatch_event_rule.notice

  rule = each.value.name
  arn  = aws_sqs_queue.notices.arn
}
