#!/usr/bin/env python3
"""`godwit up --cloud sim`: the controller sets the sizes of a simulated cloud's groups, whose instances are real workers, each with a
godwit-watch. Nothing here goes by speed: every wait is for a state, and has a minute.
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster, program  # noqa: E402
from tap import check, check_equal  # noqa: E402

SOON_S = 60.0
NOTICE_S = 30  # longer than a replacement takes, on any machine
BOOT_S = 0.2
STREAMS, TOKENS = 4, 300
SIDE_BY_SIDE = 3


def cluster(args, layout="2x8", notice_s=NOTICE_S):
    flags = ["--cloud", "sim", "--cloud-port", "0", "--layout", layout, "--zones", "z-a,z-b"]
    return Cluster(variant=args.variant or "mixed", workers=2, replace_after_s=BOOT_S, term_grace_s=notice_s, extra=flags)


def instances(up):
    return {i["id"]: i for i in up.cloud("/v1/instances")["instances"]}


def capacity(up):
    return up.admin("/admin/stats")["capacity"]


def status_of(up):
    """The rows of `godwit status`, by instance."""
    godwit = program("godwit", "asan" if up.variant == "mixed" else up.variant)
    out = subprocess.run(
        [godwit, "status", "--admin", f"127.0.0.1:{up.admin_port}"], capture_output=True, text=True, timeout=SOON_S, check=True
    ).stdout
    return {line.split()[0]: line for line in out.splitlines() if line.startswith("i-")}


def ask(up, *words):
    """`godwit cloud WORDS`; its exit status and output."""
    godwit = program("godwit", "asan" if up.variant == "mixed" else up.variant)
    listen = up.state()["cloud_url"].removeprefix("http://")
    done = subprocess.run([godwit, "cloud", *words, "--listen", listen], capture_output=True, text=True, timeout=SOON_S)
    return done.returncode, done.stdout + done.stderr


def test_reclaimed_instance_is_replaced_before_it_goes_and_streams_stay_identical(args):
    with cluster(args) as up:
        requests = workload.mixed(STREAMS, 5, TOKENS)
        references = load.run_once(up.http, requests, STREAMS, SOON_S)
        running = load.Load(up.http, requests, STREAMS).start()
        check_equal(ask(up, "preempt", "i-s-1")[0], 0, "exit status of preempt")
        up.wait_event(lambda e: e["kind"] == "worker_doomed" and e["worker"] == "i-s-1", SOON_S, "its watch has told the controller")
        up.wait_event(lambda e: e["kind"] == "worker_left" and e["worker"] == "i-s-1", SOON_S, "drained, deleted, it said goodbye")
        up.wait(lambda: sorted(instances(up)) == ["i-s-2", "i-s-3"], SOON_S, "two instances are left")
        running.finish(SOON_S)
        verdict = running.judge(references)
        check(verdict.good(), f"{verdict.first_trouble}")
        check_equal([e for e in up.events.list if e["kind"] == "worker_lost"], [], "workers lost without a goodbye")
        check_equal({i["zone"] for i in instances(up).values()}, {"z-a", "z-b"}, "zones of the two: by turns")
        check_equal(ask(up, "rebalance", "i-s-2")[0], 0, "exit status of rebalance")
        up.wait(lambda: "i-s-2" not in instances(up), SOON_S, "the one that is advised to leave has gone, once replaced")
        up.wait(lambda: sorted(up.workers("up")) == ["i-s-3", "i-s-4"], SOON_S, "its replacement is there")
        up.wait(lambda: capacity(up)["deletions"] == 2, SOON_S, "the controller has deleted two by their names")


def test_notice_taken_back_leaves_the_instance_where_it_is(args):
    with cluster(args, layout="1x8") as up:
        check_equal(ask(up, "preempt", "i-s-2", "--notice-s", "3000")[0], 0, "exit status of preempt")
        up.wait(lambda: "i-s-2" in up.workers("doomed"), SOON_S, "it is doomed")
        check_equal(ask(up, "cancel", "i-s-2")[0], 0, "exit status of cancel")
        up.wait(lambda: "i-s-2" in up.workers("up"), SOON_S, "it is up again")
        code, text = ask(up, "preempt", "i-s-99")
        check_equal((code, text), (1, "godwit cloud: there is no such instance\n"), "an instance that is none")


def test_spot_that_runs_out_is_made_up_on_demand_and_a_killed_instance_comes_again(args):
    with cluster(args, notice_s=2) as up:
        check_equal(ask(up, "supply", "1")[0], 0, "exit status of supply")
        up.wait(lambda: "i-d-3" in up.workers("up"), SOON_S, "one on demand serves")
        up.wait(lambda: len(instances(up)) == 2, SOON_S, "the reclaimed one is gone")
        up.wait(lambda: capacity(up)["on_demand"]["usd_h"] == 1, SOON_S, "what it costs is known")
        rows = status_of(up)
        check_equal(sorted(rows), sorted(instances(up)), "instances in `godwit status`")
        check("demand   1.000" in rows["i-d-3"], rows["i-d-3"])
        spot = next(name for name in rows if name.startswith("i-s-"))
        check("spot     0.250" in rows[spot], rows[spot])
        check_equal(ask(up, "kill", spot)[0], 0, "exit status of kill")
        up.wait_event(lambda e: e["kind"] == "worker_lost" and e["worker"] == spot, SOON_S, "it is lost")
        up.wait(lambda: any(w.startswith("i-s-") and w != spot for w in up.workers("up")), SOON_S, "its group has another one")
        check(spot not in instances(up), "the killed one stays away")


if __name__ == "__main__":
    tests = [f for name, f in list(globals().items()) if name.startswith("test_")]
    sys.exit(tap.main(__doc__, tests, side_by_side=SIDE_BY_SIDE))
