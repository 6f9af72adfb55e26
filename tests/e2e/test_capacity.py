#!/usr/bin/env python3
"""The controller sets the sizes of its cloud's groups, and hears its queue: against a simulated cloud whose instances are real
workers, against a fake of AWS's API, and against moto (skipped where it is not installed).

What is wished for is made sure of by a layout: `2x8` needs two workers, whatever the load.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import cluster  # noqa: E402
import control  # noqa: E402
import load  # noqa: E402
import scenarios  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from fake_aws_api import FakeAwsApi  # noqa: E402
from sim_cloud import SimCloud  # noqa: E402
from tap import check, check_equal, note  # noqa: E402

TABLE = scenarios.Table("Sizes, and the queue")
SOON_S = 90.0
SIDE_BY_SIDE = 7  # tests: they wait more than they work
STREAMS, TOKENS = 6, 500
SETTLE_S = 3  # workers of a controller that is started again are back within one
FAST = [
    "--capacity-cooldown", "1", "--capacity-read", "1", "--capacity-shrink", "1", "--capacity-drain", "30",
    "--capacity-short", "3", "--capacity-whole", "2", "--capacity-settle", str(SETTLE_S),
]  # fmt: skip
GROUPS = ["--spot-group", "spot", "--spot-max", "5", "--on-demand-group", "on-demand", "--on-demand-price", "1"]
KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "x"}


class Setting:
    """A controller and a simulated cloud that starts its workers."""

    def __init__(self, args, sizes, layout, extra=(), journal="file", dies_at=None):
        self.c = control.Control(variant=args.variant, journal=journal)
        if dies_at:
            self.c.env = {"GODWIT_FAILPOINT": f"controller {dies_at}", "GODWIT_FAILPOINT_MARK": os.path.join(self.c.dir, "died")}
        self.cloud = SimCloud(self.start_worker, sizes, self.look)
        self.flags = ["--cloud", "sim", "--cloud-endpoint", self.cloud.url, *FAST, *GROUPS, "--layout", layout, *extra]
        self.layout, self.violations, self.names = layout, [], ("c0",)

    def __enter__(self):
        self.c.__enter__()
        try:
            self.c.start_controller(extra=self.flags)
            self.cloud.__enter__()
        except BaseException:
            self.c.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.cloud.__exit__(*exc)
        self.c.__exit__(*exc)
        if exc[0] is None:
            undrained = [d for d in self.cloud.deleted if d[1] is None or not drained(d[1])]
            check_equal(undrained, [], "instances that were deleted though something ran there")

    def start_worker(self, instance):
        return self.c.start_instance(instance, self.names)

    def look(self, instance):
        """What the controller says of the instance's workers, or None if it says nothing."""
        for name in self.names:
            with contextlib.suppress(OSError):
                return [w for w in self.c.admin("/admin/workers", name=name)["workers"] if w["instance"] == instance]
        return None

    def capacity(self):
        return self.c.admin("/admin/stats")["capacity"]

    def wait(self, condition, what, deadline_s=SOON_S):
        self.c.wait(condition, deadline_s, what)

    def wait_serving(self, count):
        """So many pipelines serve. A doomed instance that serves nothing may go at once."""
        pipelines = lambda: self.c.admin("/admin/layout")["pipelines"]  # noqa: E731
        self.wait(lambda: sum(p["state"] == "serving" for p in pipelines()) == count, f"{count} pipelines serve")

    def running(self, group):
        return len(self.cloud.of(group, "running"))

    def force(self, layout):
        self.c.admin("/admin/layout", {"layout": layout})


def drained(workers):
    """Nothing runs on an instance without workers; on one with workers, when they are under notice and have no request."""
    return all(w["state"] == "doomed" and w["requests"] == 0 for w in workers)


@TABLE.row("sim", "the layout needs more, then less, while streams run", "grows at once, shrinks by a drained instance, streams identical")
def test_sim_group_grows_to_what_the_layout_needs_and_shrinks_while_streams_run(args):
    with Setting(args, {"spot": 1, "on-demand": 0}, "2x8") as s:
        s.wait(lambda: s.running("spot") == 2, "two spot instances run")
        check_equal(s.cloud.sizes, [("spot", 2)], "sizes that were set")
        s.c.wait_workers(2)
        requests = workload.mixed(STREAMS, 7, TOKENS)
        with client.Client("127.0.0.1", s.c.controllers["c0"].port) as http:
            references = load.run_once(http, requests, STREAMS, SOON_S)
            running = load.Load(http, requests, STREAMS).start()
            s.force("1x8")
            s.wait(lambda: s.cloud.deleted, "one instance is deleted")
            running.finish(SOON_S)
            verdict = running.judge(references)
        check(verdict.good(), f"{verdict.first_trouble}")
        s.wait(lambda: s.running("spot") == 1, "one is left")
        check_equal(s.cloud.desired["spot"], 1, "the group's size")
        s.wait(lambda: s.capacity()["spot"]["usd_h"] == 0.25, "the price of one is shown")
        check_equal(s.c.metric("godwit:cost_usd_per_hour"), 0.25, "cost per hour")


@TABLE.row("sim", "spot lacks an instance, then has it", "on demand makes up for it, and is given back")
def test_sim_on_demand_makes_up_for_spot_and_is_given_back(args):
    with Setting(args, {"spot": 1, "on-demand": 0}, "2x8") as s:
        s.cloud.supply = 1
        s.wait(lambda: s.running("on-demand") == 1, "one on demand runs")
        check(("on-demand", 1) in s.cloud.sizes, f"sizes that were set: {s.cloud.sizes}")
        s.wait(lambda: s.capacity()["on_demand"]["usd_h"] == 1, "what it costs is shown")
        s.cloud.supply = 5
        s.wait(lambda: s.running("spot") == 2, "spot is whole again")
        s.wait(lambda: s.running("on-demand") == 0, "on demand is given back")
        check([d[0] for d in s.cloud.deleted][0].startswith("i-on-demand"), f"deleted: {s.cloud.deleted}")


@TABLE.row("sim", "a notice", "a replacement, then the doomed one is deleted")
def test_sim_doomed_instance_is_replaced_before_it_goes(args):
    with Setting(args, {"spot": 2, "on-demand": 0}, "2x8") as s:
        s.wait_serving(2)
        s.wait(lambda: s.capacity()["wish"] == 2, "two are wished for")
        doomed = s.cloud.of("spot")[0].name
        s.c.admin("/admin/notice", {"instance": doomed, "kind": "preempt", "deadline_s": 120})
        s.wait(lambda: s.running("spot") == 3, "its replacement runs beside it")
        s.wait(lambda: doomed in [d[0] for d in s.cloud.deleted], "it is deleted by its name once the other serves")
        s.wait(lambda: s.cloud.desired["spot"] == 2, "the group has its size again")


@TABLE.row("sim", "throttled calls, bodies that are none", "made up for, each size asked for once")
def test_sim_throttled_and_refused_calls_are_made_up_for(args):
    with Setting(args, {"spot": 1, "on-demand": 0}, "3x8") as s:
        s.cloud.fault(path="/desired", status=429, times=2)
        s.cloud.fault(path="/v1/groups/spot", status=200, body="<html>", times=2)
        s.wait(lambda: s.running("spot") == 3, "three spot instances run")
        check_equal(set(s.cloud.sizes), {("spot", 3)}, "sizes that were set")


@TABLE.row("sim", "two controllers", "the one without the journal writes nothing, then takes over")
def test_sim_standby_writes_nothing_until_it_holds_the_journal(args):
    with Setting(args, {"spot": 1, "on-demand": 0}, "1x8") as s:
        s.names = ("c0", "c1")
        standby = s.c.start_controller("c1", extra=[*s.flags, "--standby", "--layout", "3x8"], wait=False)
        s.c.wait_workers(1)
        time.sleep(SETTLE_S + 4)  # the first has settled, and has nothing to do
        check_equal((s.cloud.sizes, s.cloud.deleted), ([], []), "what was asked for while the first controller is content")
        s.c.kill_controller("c0", signal.SIGKILL)
        s.c.wait(lambda: s.running("spot") == 3, SOON_S, "the standby has taken over, and wishes for three", standby.process)
        check_equal(s.cloud.sizes, [("spot", 3)], "sizes that were set")


def dies_and_is_started_again(args, point, sizes, layout, then):
    """The controller dies where the point says; the next one goes on, and `then` holds."""
    with Setting(args, sizes, layout, dies_at=point) as s:
        s.c.controllers["c0"].process.wait(SOON_S)
        s.c.start_controller(extra=s.flags)
        s.wait(lambda: then(s), f"it goes on after the death at '{point}'")
        check("was about to be" in s.c.tail(100000), "the intent is found")


@TABLE.row("sim", "killed before a size is set", "set by the next")
def test_sim_controller_that_dies_before_its_call_makes_it_later(args):
    dies_and_is_started_again(args, "intent stored", {"spot": 1, "on-demand": 0}, "2x8", lambda s: s.running("spot") == 2)


@TABLE.row("sim", "killed after a size was set", "the group has it")
def test_sim_controller_that_dies_after_its_call_does_not_repeat_it(args):
    def then(s):
        return s.running("spot") == 2 and s.capacity()["wish"] == 2

    dies_and_is_started_again(args, "write accepted", {"spot": 1, "on-demand": 0}, "2x8", then)


@TABLE.row("sim", "killed before a deletion", "the next decides anew")
def test_sim_controller_that_dies_before_a_deletion_decides_anew(args):
    dies_and_is_started_again(args, "intent stored", {"spot": 2, "on-demand": 0}, "1x8", lambda s: s.cloud.desired["spot"] == 1)


@TABLE.row("sim", "a dry run, with a file of prices", "shown, nothing done; cost by cloud, file, flag")
def test_sim_dry_run_shows_and_does_nothing(args):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as prices, contextlib.ExitStack() as stack:
        json.dump({"prices": [{"market": "on-demand", "zone": "z-a", "usd_h": 0.75}, {"market": "spot", "usd_h": 9}]}, prices)
        prices.flush()
        flags = ["--capacity-dry-run", "--capacity-prices", prices.name]
        s = stack.enter_context(Setting(args, {"spot": 1, "on-demand": 1}, "3x8", flags, journal="none"))
        s.wait(lambda: s.capacity()["spot"]["target"] == 3, "three are shown as wished for")
        s.wait(lambda: s.capacity()["on_demand"]["usd_h"] == 0.75, "the file's price goes before the flag's")
        s.wait(lambda: s.capacity()["spot"]["usd_h"] == 0.25, "what the cloud tells goes before the file")
        time.sleep(3)
        check_equal((s.cloud.sizes, s.cloud.deleted), ([], []), "what was asked for")


# ---- godwit cloud


@TABLE.row("sim", "a trace takes spot away (`godwit cloud`)", "on demand takes its place, streams identical")
def test_sim_played_by_godwit_cloud_follows_a_trace_and_sizes(args):
    """Supply falls from three to one: one of two spot instances is reclaimed with notice, on demand takes its place."""
    with control.Control(variant=args.variant) as c:
        ports = control.Ports(1)
        port = ports.numbers[0]
        flags = ["--cloud", "sim", "--cloud-endpoint", f"http://127.0.0.1:{port}", *FAST, *GROUPS, "--layout", "2x8"]
        c.start_controller(extra=flags)
        trace = os.path.join(c.dir, "trace.csv")
        with open(trace, "w") as f:
            f.write("0,3\n200,1\n")
        godwit = cluster.mixed_build(c.dir) if c.variant == "mixed" else cluster.program("godwit", c.variant)
        words = ["cloud", "--model", c.model, "--cluster-key-file", c.key, "--listen", f"127.0.0.1:{port}"]
        words += ["--controller", f"127.0.0.1:{c.controllers['c0'].worker_port}", "--trace", trace, "--trace-speed", "10"]
        words += ["--notice-s", "3", "--boot-s", "0.5", "--log-dir", c.dir]
        cloud = c.spawn("cloud", [godwit, *words])
        c.wait_workers(2)
        requests = workload.mixed(STREAMS, 9, TOKENS)
        with client.Client("127.0.0.1", c.controllers["c0"].port) as http:
            references = load.run_once(http, requests, STREAMS, SOON_S)
            running = load.Load(http, requests, STREAMS).start()
            c.wait(lambda: c.admin("/admin/stats")["capacity"]["on_demand"]["running"] == 1, SOON_S, "one on demand runs")
            c.wait_workers(2)
            running.finish(SOON_S)
            verdict = running.judge(references)
        check(verdict.good(), f"{verdict.first_trouble}")
        shown = c.admin("/admin/stats")["capacity"]
        check_equal((shown["spot"]["running"], shown["on_demand"]["usd_h"]), (1, 1), "spot instances, and what on demand costs")
        cloud.send_signal(signal.SIGTERM)
        check_equal(cloud.wait(30), 0, "the cloud's exit status")
        ports.close()


# ---- AWS


def warning(instance, age_s=0.0):
    return {
        "version": "0", "id": "1", "detail-type": "EC2 Spot Instance Interruption Warning", "source": "aws.ec2",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_s)),
        "detail": {"instance-id": instance, "instance-action": "terminate"},
    }  # fmt: skip


def lifecycle(instance):
    return {
        "source": "aws.autoscaling", "detail-type": "EC2 Instance-terminate Lifecycle Action",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "detail": {
            "LifecycleActionToken": "87654321-4321-4321-4321-210987654321", "AutoScalingGroupName": "g",
            "LifecycleHookName": "h", "EC2InstanceId": instance, "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        },
    }  # fmt: skip


@contextlib.contextmanager
def aws(args, url, *more, workers=()):
    """A controller that is told of AWS at `url`, and workers on instances of these names."""
    flags = ["--cloud", "aws", "--cloud-region", "eu-central-1", "--cloud-endpoint", url, *FAST, *more]
    with control.Control(variant=args.variant) as c:
        c.start_controller(extra=flags)
        for instance in workers:
            c.workers[instance] = c.start_instance(instance)
        c.wait_workers(len(workers))
        yield c


def state_of(c, instance):
    return [w["state"] for w in c.admin("/admin/workers")["workers"] if w["instance"] == instance]


@TABLE.row("aws", "queue: warnings, twice, early, old", "the core has them, then they are deleted")
def test_aws_queue_is_heard_by_the_core_and_forgotten_after_it(args):
    with FakeAwsApi() as api, aws(args, api.url, "--notice-queue", "q", workers=("i-0a", "i-0b")) as c:
        api.put_message("known", warning("i-0a"))
        api.put_message("again", warning("i-0a"))
        api.put_message("unknown", warning("i-0c"))
        api.put_message("unknown and old", warning("i-0c", age_s=400))
        c.wait(lambda: state_of(c, "i-0a") == ["doomed"], SOON_S, "i-0a is doomed")
        deadline_s = next(w["deadline_in_s"] for w in c.admin("/admin/workers")["workers"] if w["instance"] == "i-0a")
        check(90 < deadline_s <= 121, f"its deadline is {deadline_s} s away")
        c.wait(lambda: len(api.forgotten) == 3, SOON_S, "three messages are forgotten")
        check_equal(sorted(api.forgotten), ["again", "known", "unknown and old"], "forgotten")
        check_equal(state_of(c, "i-0b"), ["up"], "the other instance")
        c.workers["i-0c"] = c.start_instance("i-0c")
        c.wait(lambda: state_of(c, "i-0c") == ["doomed"], SOON_S, "the late instance is doomed when its message comes again")
        check(c.metric("godwit:notice_queue_messages_total") >= 4, "messages are counted")


@TABLE.row("aws", "queue: an instance is being ended by its group", "completed once nothing runs there")
def test_aws_lifecycle_is_completed_once_nothing_runs_there(args):
    with FakeAwsApi() as api, aws(args, api.url, "--notice-queue", "q", workers=("i-0a", "i-0b")) as c:
        api.put_message("hook", lifecycle("i-0a"))
        c.wait(lambda: not api.lifecycle_active, SOON_S, "the lifecycle is completed")
        asked = [fields for op, fields, _ in api.calls if op == "CompleteLifecycleAction"]
        check_equal((asked[0]["InstanceId"], asked[0]["LifecycleActionResult"]), ("i-0a", "CONTINUE"), "what was completed")
        check_equal(api.forgotten, ["hook"], "forgotten")


@TABLE.row("aws", "a group below its least size, calls busy", "described, then raised")
def test_aws_group_is_raised_once_though_calls_are_busy(args):
    with FakeAwsApi() as api, aws(args, api.url, "--spot-group", "g", "--spot-min", "5") as c:
        api.refuse_next("SetDesiredCapacity", 400, "ScalingActivityInProgress")
        c.wait(lambda: api.desired == 5, SOON_S, "the group's size is 5")
        sizes = [fields["DesiredCapacity"] for op, fields, _ in api.calls if op == "SetDesiredCapacity"]
        check_equal(sizes, ["5", "5"], "sizes that were asked for: one was refused as busy")
        operations = [op for op, _, _ in api.calls]
        first = operations.index("SetDesiredCapacity")
        check("DescribeAutoScalingGroups" in operations[:first], "the group was described before")


@TABLE.row("aws", "a group below its least size", "raised; size and cost are shown (moto)")
def test_aws_moto_group_is_raised(args):
    from test_cloud_aws import GROUP, make_group, moto  # its tests are about the calls; here the controller makes them

    with control.Control(variant=args.variant) as scratch, moto(scratch.dir) as (url, make_client):
        make_group(make_client)
        with aws(args, url, "--spot-group", GROUP, "--spot-min", "5") as c:
            def size():
                return make_client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]["DesiredCapacity"]

            c.wait(lambda: size() == 5, SOON_S, "the group's size is 5")
            c.wait(lambda: c.admin("/admin/stats")["capacity"]["spot"]["desired"] == 5, SOON_S, "it shows")
            c.wait(lambda: c.admin("/admin/stats")["capacity"]["spot"]["usd_h"] > 0, SOON_S, "what they cost shows")
            note(f"shown: {json.dumps(c.admin('/admin/stats')['capacity'])}")


if __name__ == "__main__":
    os.environ.update(KEYS)
    tests = [f for name, f in list(globals().items()) if name.startswith("test_")]
    sys.exit(tap.main(__doc__, tests, scenarios.arguments, TABLE.around(), side_by_side=SIDE_BY_SIDE))
