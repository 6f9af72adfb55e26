#!/usr/bin/env python3
"""What the clouds' notices cost, and how fast they are: from publication by a (fake) metadata service to the controller's core,
by a real godwit-watch and a real controller; processor time and memory of a watch; the longest that describing a group of
10,000 keeps the controller's loop.

Prints `bench` lines; the references are the gates: 1.5 s AWS, 0.1 s GCP, 0.8 s Azure (medians), 0.2% of a core, 8 MiB, 1 ms.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "lib"), os.path.join(TESTS, "e2e")]
import client  # noqa: E402
import cluster  # noqa: E402
import control  # noqa: E402
from fake_aws_api import FakeAwsApi  # noqa: E402
from fake_metadata import FakeAws, FakeAzure, FakeGcp  # noqa: E402
from test_cloud_watch import cpu_s, publish  # noqa: E402

GATES_S = {"aws": (FakeAws, 1.5), "gcp": (FakeGcp, 0.1), "azure": (FakeAzure, 0.8)}
SOON_S = 60.0
COST_S = 20
GROUP = 10000


def bench_line(name, ours, ref, unit):
    return f"bench {name} ours={ours:.4g} ref={ref:.4g} ratio={ours / ref:.4g} unit={unit}"


@contextlib.contextmanager
def watched(c, cloud, fake):
    """A watch on the instance of a worker that is up; yields (metadata service, timeline, watch's process)."""
    with fake() as m:
        c.workers[cloud] = c.start_instance(m.instance)
        words = ["--cloud", cloud, "--metadata-url", m.url, "--instance-id", m.instance]
        words += ["--controller", f"http://127.0.0.1:{c.controllers['c0'].admin_port}"]
        watch = c.spawn(f"watch-{cloud}", [cluster.program("godwit-watch", "release"), *words])
        with client.Client("127.0.0.1", c.controllers["c0"].admin_port) as admin:
            events = admin.submit(cluster.Events())
            c.wait(lambda: any(e["kind"] == "worker_up" for e in events.list), SOON_S, "the worker is up")
            yield m, events, watch
        watch.terminate()
        watch.wait(20)


def withdraw(m, cloud):
    if cloud == "aws":
        del m.documents["spot/instance-action"]
    elif cloud == "gcp":
        m.set("preempted", "FALSE")
    else:
        m.withdraw(m.events[0]["EventId"])


def times_of(c, cloud, fake, rounds):
    """Seconds from publication to the core's note."""
    with watched(c, cloud, fake) as (m, events, watch):
        times = []
        time.sleep(3)  # it asks for notices by now
        for _ in range(rounds):
            time.sleep(random.uniform(0, 2.5))  # the watch asks at times of its own
            since, at = len(events.list), publish(m, cloud)
            seen = lambda kind: next((e for e in events.list[since:] if e["kind"] == kind), None)  # noqa: E731, B023
            c.wait(lambda: seen("worker_doomed"), SOON_S, "the core knows")
            times.append(seen("worker_doomed")["at_s"] - at)
            withdraw(m, cloud)
            c.wait(lambda: seen("notice_cancelled"), SOON_S, "the core has taken it back")
        cost = cost_of(watch.pid) if cloud == "aws" else None
    return times, cost


def cost_of(pid):
    """(share of a core, KiB of its own) of a watch that asks and hears nothing."""
    before = cpu_s(pid)
    time.sleep(COST_S)
    with open(f"/proc/{pid}/smaps_rollup") as f:
        kib = {line.split(":")[0]: int(line.split()[1]) for line in f if line.rstrip().endswith(" kB")}
    return (cpu_s(pid) - before) / COST_S, kib["Private_Clean"] + kib["Private_Dirty"]


def loop_us():
    """The longest round of the loop while a group of GROUP instances is described: the median of five."""
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "x"}
    rounds = []
    with FakeAwsApi() as api:
        api.instances = GROUP
        words = ["aws", "describe group", "--group", "g", "--endpoint", api.url]
        for _ in range(5):
            p = subprocess.run([cluster.program("tests/cloud_call", "release"), *words], env=env, capture_output=True, text=True)
            rounds.append(json.loads(p.stdout.splitlines()[-1])["busy_us"])
    return statistics.median(rounds)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=9)
    args = ap.parse_args()
    print(f"{args.rounds} publications per cloud, load {os.getloadavg()[0]:.1f}")
    for cloud, (fake, gate_s) in GATES_S.items():
        with control.Control(variant="release", journal="none") as c:
            c.start_controller()
            times, cost = times_of(c, cloud, fake, args.rounds)
        print(f"{cloud}: worst {max(times):.3f} s")
        print(bench_line(f"notice_to_core_{cloud}_s", statistics.median(times), gate_s, "s"))
        if cost:
            print(bench_line("watch_core_share", cost[0], 0.002, "cores"))
            print(bench_line("watch_private_kib", cost[1], 8 << 10, "KiB"))
    print(bench_line("describe_10000_loop_us", loop_us(), 1000, "us"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
