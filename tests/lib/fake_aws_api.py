"""AWS's autoscaling, SQS, STS and credential endpoints as far as Godwit asks them, for what moto cannot do: lifecycle
actions, refusals, throttling, credentials that end, groups of ten thousand.

    with FakeAwsApi() as api:
        api.refuse_next("SetDesiredCapacity", 400, "ScalingActivityInProgress", times=2)
        api.calls            # [(operation, fields, headers)]
"""

import json
import re
import time
import urllib.parse

from fake_metadata import Answer, Fake, iso

VISIBILITY_S = 1.0  # 30 at the least in what is asked for: a test does not wait so long
ERROR = "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>"
MEMBER = (
    "<member><InstanceId>i-{:017x}</InstanceId><InstanceType>g6.xlarge</InstanceType>"
    "<AvailabilityZone>eu-central-1{}</AvailabilityZone><LifecycleState>{}</LifecycleState>"
    "<HealthStatus>Healthy</HealthStatus><LaunchTemplate><LaunchTemplateId>lt-0</LaunchTemplateId>"
    "<LaunchTemplateName>godwit</LaunchTemplateName><Version>1</Version></LaunchTemplate>"
    "<ProtectedFromScaleIn>true</ProtectedFromScaleIn></member>"
)


class FakeAwsApi(Fake):
    def __init__(self):
        super().__init__()
        self.calls, self.instances, self.desired, self.messages, self.forgotten = [], 3, 3, [], []
        self.valid_keys, self.lifecycle_active = {"AKTEST"}, True
        self.key_number, self._refusals, self._receipt = 0, [], 0
        self.raw = []  # (path, headers, body) of everything signed, for a signer to look at

    def refuse_next(self, operation, status, code, message="said the test", times=1):
        with self.lock:
            self._refusals.append([operation, status, code, message, times])

    def answer(self, method, path, query, headers, body):
        if path.startswith("/latest/") or path.startswith("/container"):
            self.answer_credentials(method, path, headers)
        self.raw.append((path, dict(headers), body))
        target = headers.get("X-Amz-Target", "")
        if target.startswith("AmazonSQS."):
            fields, operation = json.loads(body), target.removeprefix("AmazonSQS.")
        else:
            fields = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
            operation = fields.pop("Action", "")
        self.calls.append((operation, fields, dict(headers)))
        if operation != "AssumeRoleWithWebIdentity":
            key = re.search(r"Credential=([^/]+)/", headers.get("Authorization", ""))
            if not key or key[1] not in self.valid_keys:
                raise Answer(403, ERROR.format("ExpiredToken", "The security token included in the request is expired"))
        self.refuse_if_asked(operation, bool(target))
        getattr(self, "do_" + operation)(fields)

    def refuse_if_asked(self, operation, is_json):
        with self.lock:
            for r in self._refusals:
                if r[0] == operation and r[4] > 0:
                    r[4] -= 1
                    if is_json:
                        raise Answer(r[1], json.dumps({"__type": "com.amazonaws.sqs#" + r[2], "message": r[3]}))
                    raise Answer(r[1], ERROR.format(r[2], r[3]))

    # ---- autoscaling

    def do_DescribeAutoScalingGroups(self, fields):
        states = ("InService", "Pending", "Terminating:Wait")
        members = "".join(MEMBER.format(i, "abc"[i % 3], states[i % 3 if i < 3 else 0]) for i in range(self.instances))
        raise Answer(
            200,
            "<DescribeAutoScalingGroupsResponse xmlns='http://autoscaling.amazonaws.com/doc/2011-01-01/'>"
            "<DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>"
            f"{fields['AutoScalingGroupNames.member.1']}</AutoScalingGroupName><MinSize>0</MinSize>"
            f"<MaxSize>20000</MaxSize><DesiredCapacity>{self.desired}</DesiredCapacity><Instances>{members}</Instances>"
            "</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>",
        )

    def do_SetDesiredCapacity(self, fields):
        self.desired = int(fields["DesiredCapacity"])
        raise Answer(200, "<SetDesiredCapacityResponse/>")

    def do_TerminateInstanceInAutoScalingGroup(self, fields):
        raise Answer(400, ERROR.format("ValidationError", "Instance Id not found - No managed instance found"))

    def do_CompleteLifecycleAction(self, fields):
        if not self.lifecycle_active:
            text = f"No active Lifecycle Action found with instance ID {fields['InstanceId']}"
            raise Answer(400, ERROR.format("ValidationError", text))
        self.lifecycle_active = False
        raise Answer(200, "<CompleteLifecycleActionResponse><CompleteLifecycleActionResult/>"
                          "</CompleteLifecycleActionResponse>")  # fmt: skip

    # ---- sqs: a message that was given out is invisible for VISIBILITY_S, then comes again

    def do_ReceiveMessage(self, fields):
        now = time.monotonic()
        with self.changed:
            self.changed.wait_for(lambda: self.stopping.is_set() or self.visible(), min(1, fields["WaitTimeSeconds"]))
            batch = self.visible()[: fields["MaxNumberOfMessages"]]
            document = []
            for message in batch:
                self._receipt += 1
                message["visible_s"] = now + VISIBILITY_S
                receipt = f"{message['key']}#{self._receipt}"
                document.append({"MessageId": message["key"], "ReceiptHandle": receipt, "Body": message["body"]})
        raise Answer(200, json.dumps({"Messages": document} if document else {}))

    def visible(self):
        return [m for m in self.messages if m["visible_s"] <= time.monotonic()]

    def do_DeleteMessage(self, fields):
        key = fields["ReceiptHandle"].split("#")[0]
        with self.changed:
            self.messages = [m for m in self.messages if m["key"] != key]
            self.forgotten.append(key)
        raise Answer(200, "{}")

    def put_message(self, key, body):
        with self.changed:
            text = body if isinstance(body, str) else json.dumps(body)
            self.messages.append({"key": key, "body": text, "visible_s": 0.0})
            self.changed.notify_all()

    # ---- credentials

    def new_keys(self):
        """Keys that end in an hour; those before are no longer valid."""
        self.key_number += 1
        key = f"ASIATEST{self.key_number}"
        self.valid_keys = {key}
        return key, iso(self.now() + 3600)

    def do_AssumeRoleWithWebIdentity(self, fields):
        if fields.get("WebIdentityToken") != "web.identity.token" or ":role/" not in fields.get("RoleArn", ""):
            raise Answer(403, ERROR.format("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"))
        key, ends = self.new_keys()
        raise Answer(
            200,
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey><SessionToken>session</SessionToken>"
            f"<Expiration>{ends}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>",
        )

    def answer_credentials(self, method, path, headers):
        document = {"SecretAccessKey": "s3cret", "Token": "session"}
        if path == "/container/keys":
            if headers.get("Authorization") != "container-token":
                self.refuse(403, "the container's token is missing")
        elif method == "PUT" and path == "/latest/api/token":
            raise Answer(200, "IMDSTOKEN==")
        elif headers.get("X-aws-ec2-metadata-token") != "IMDSTOKEN==":
            raise Answer(401)
        elif path == "/latest/meta-data/iam/security-credentials/":
            raise Answer(200, "godwit-controller")
        elif path != "/latest/meta-data/iam/security-credentials/godwit-controller":
            raise Answer(404)
        key, ends = self.new_keys()
        raise Answer(200, json.dumps({**document, "Code": "Success", "AccessKeyId": key, "Expiration": ends}))


if __name__ == "__main__":
    raise SystemExit("a library: see tests/e2e")
