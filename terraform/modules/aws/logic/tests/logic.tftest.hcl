variables {
  controller_private_ip = "10.0.1.10"
  name                  = "godwit-test"
  account_id            = "123456789012"
  region                = "eu-central-1"
  instance_types        = ["g6.xlarge", "g5.xlarge"]
  subnet_ids            = ["subnet-a", "subnet-b"]
  spot                  = { min = 0, max = 8, start = 2 }
  model_location        = "s3://models/llama-3.2-1b"
  package_location      = "s3://releases/godwit_0.1.0_amd64.deb"
  secret_arns = {
    cluster_key = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:godwit/cluster-key-AbCdEf"
    admin_token = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:godwit/admin-token-AbCdEf"
  }
}

run "worker_reads_one_prefix_and_nothing_else" {
  command = plan
  assert {
    condition     = length(jsondecode(output.worker_policy).Statement) == 2
    error_message = "a worker may do more than read its files and its secrets"
  }
  assert {
    condition     = jsondecode(output.worker_policy).Statement[0].Resource == ["arn:aws:s3:::models/llama-3.2-1b/*", "arn:aws:s3:::releases/godwit_0.1.0_amd64.deb"]
    error_message = "a worker reads other objects than its model and the package"
  }
  assert {
    condition     = !strcontains(output.worker_policy, "autoscaling") && !strcontains(output.worker_policy, "sqs")
    error_message = "a worker can touch groups or the queue"
  }
}

run "controller_writes_to_its_groups_only" {
  command = plan
  assert {
    condition = alltrue([
      for s in jsondecode(output.controller_policy).Statement :
      s.Resource != ["*"] || alltrue([for a in s.Action : can(regex(":Describe", a))])
    ])
    error_message = "the controller may write to everything"
  }
  assert {
    condition     = strcontains(output.controller_policy, "autoScalingGroupName/godwit-test-spot") && strcontains(output.controller_policy, "autoScalingGroupName/godwit-test-on-demand")
    error_message = "the controller cannot write to its groups"
  }
}

run "queue_takes_messages_from_our_rules_alone" {
  command = plan
  assert {
    condition     = length(jsondecode(output.queue_policy).Statement[0].Condition.ArnEquals["aws:SourceArn"]) == length(output.rule_names)
    error_message = "the queue's policy does not name each rule"
  }
  assert {
    condition     = alltrue([for n in values(output.rule_names) : strcontains(output.queue_policy, "rule/${n}")])
    error_message = "a rule of ours may not write"
  }
}

run "groups_buy_spot_and_on_demand" {
  command = plan
  assert {
    condition     = output.groups["spot"].on_demand_percentage == 0 && output.groups["on-demand"].on_demand_percentage == 100
    error_message = "the groups buy the wrong way"
  }
  assert {
    condition     = jsondecode(output.event_patterns["terminate"]).detail.AutoScalingGroupName == [output.groups["on-demand"].name, output.groups["spot"].name]
    error_message = "terminations of other clusters' groups would be heard"
  }
}

run "china_has_its_own_partition" {
  command = plan
  variables {
    region = "cn-north-1"
  }
  assert {
    condition     = strcontains(output.worker_policy, "arn:aws-cn:s3:::")
    error_message = "not China's partition"
  }
}

run "sizes_out_of_order_are_refused" {
  command = plan
  variables {
    spot = { min = 3, max = 2, start = 3 }
  }
  expect_failures = [var.spot]
}

run "small_gpus_are_refused" {
  command = plan
  variables {
    instance_types = ["g4dn.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "hooks_longer_than_spot_waits_are_refused" {
  command = plan
  variables {
    terminate_hook_s = 120
  }
  expect_failures = [var.terminate_hook_s]
}

run "whole_bucket_is_refused" {
  command = plan
  variables {
    model_location = "s3://models"
  }
  expect_failures = [var.model_location]
}

run "secret_in_place_of_its_arn_is_refused" {
  command = plan
  variables {
    secret_arns = { cluster_key = "0011223344", admin_token = "hunter2" }
  }
  expect_failures = [var.secret_arns]
}

run "one_controller_by_default" {
  command = plan
  assert {
    condition     = keys(output.controllers) == ["a"] && output.controllers["a"].subnet_id == "subnet-a"
    error_message = "not one controller in the first subnet"
  }
}

run "pair_lies_in_two_subnets_and_its_journal_is_never_evicted" {
  command = plan
  variables {
    standby_private_ip = "10.0.2.10"
    load_balanced      = true
  }
  assert {
    condition     = output.controllers["b"] == { private_ip = "10.0.2.10", subnet_id = "subnet-b" }
    error_message = "the second controller is not in the second subnet"
  }
  assert {
    condition     = output.redis_parameters["maxmemory-policy"] == "noeviction"
    error_message = "the journal's Redis may evict"
  }
}

run "pair_without_a_load_balancer_is_refused" {
  command = plan
  variables {
    standby_private_ip = "10.0.2.10"
  }
  expect_failures = [output.controllers]
}

run "pair_in_one_subnet_is_refused" {
  command = plan
  variables {
    subnet_ids         = ["subnet-a"]
    standby_private_ip = "10.0.1.11"
    load_balanced      = true
  }
  expect_failures = [output.controllers]
}

run "pair_of_one_address_is_refused" {
  command = plan
  variables {
    standby_private_ip = "10.0.1.10"
    load_balanced      = true
  }
  expect_failures = [output.controllers]
}
