#!/usr/bin/env python3
"""Weights from other workers: newcomers and ranks of other layouts load what they lack from whoever has it, the streams are
the same, and a source that dies in the middle of it costs nothing but the disk's time.

Workers are told to prefer peers (--weights peers): a model as small as the tests' is faster packed than asked for.
"""

import os
import re
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import compare  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster  # noqa: E402
from tap import check, check_equal  # noqa: E402

STREAMS = 6
TOKENS = 64
STREAMS_S = 120.0
SETTLE_S = 60.0
REPLACE_S = 0.5


def cluster(how, workers=2, shape="replicas"):
    return Cluster(
        variant="asan",
        workers=workers,
        replace_after_s=REPLACE_S,
        term_grace_s=5,
        extra=["--weights", how, "--layout", shape],
    )


def weight_bytes(up):
    """{"disk": bytes, "peer": bytes} that workers have loaded, as /metrics says."""
    text = client.call(up.host, up.admin_port, "GET", "/metrics")[2]
    found = re.findall(r'^godwit:weight_bytes_total\{[^}]*from="(\w+)"\} ([\d.e+]+)', text, re.M)
    return {name: int(float(value)) for name, value in found}


def settled(up, workers):
    """Do so many workers serve, all of what is planned and nothing else?"""
    now = up.admin("/admin/layout")
    states = [p["state"] for p in now["pipelines"]]
    ranks = sum(len(p["ranks"]) for p in now["pipelines"])
    return states and all(s == "serving" for s in states) and ranks == workers and not now["plan"]["under_way"]


def settle(up, workers, what):
    up.wait_workers(workers, SETTLE_S)
    up.wait(lambda: settled(up, workers), SETTLE_S, what)


def said(up):
    """What workers said of where their weights came from: [(MB here, from peers, from disk)]"""
    pattern = r"weights: ([\d.]+) MB were here, ([\d.]+) MB from peers, ([\d.]+) MB from disk"
    logs = [name for name in os.listdir(up.dir) if name.endswith(".log")]
    lines = []
    for name in logs:
        with open(os.path.join(up.dir, name), errors="replace") as f:
            lines += [tuple(float(x) for x in found) for found in re.findall(pattern, f.read())]
    return lines


def run(up, requests):
    return load.run_once(up.http, requests, STREAMS, STREAMS_S)


def check_same(references, streams, what):
    verdict = compare.judge(references, streams)
    check(
        verdict.good(),
        f"{what}: lost={verdict.lost} errors={verdict.errors} identical={verdict.identical}/{verdict.requests}; "
        f"first: {verdict.first_trouble}",
    )


def force(up, shape, workers):
    up.admin("/admin/layout", {"layout": shape})
    settle(up, workers, f"{shape} serves")


def replace(up, worker):
    """kill -9, and the next one of that name comes up."""
    before = up.workers()
    up.kill(worker, signal.SIGKILL)
    up.wait(lambda: set(up.workers("up").values()) - set(before.values()), SETTLE_S, f"{worker} is replaced")


def test_newcomer_gets_all_its_weights_from_a_peer_and_serves_the_same(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with cluster("peers") as up:
        settle(up, 2, "both workers serve")
        before = weight_bytes(up)
        references = run(up, requests)
        replace(up, "w1")
        settle(up, 2, "the newcomer serves")
        up.wait(lambda: weight_bytes(up)["peer"] > before.get("peer", 0), SETTLE_S, "weights have come from a peer")
        after = weight_bytes(up)
        check_equal(after["disk"], before["disk"], "bytes from disk")
        check(any(peers > 0 and disk == 0 for _, peers, disk in said(up)), f"no worker said so: {said(up)}")
        # Whatever runs now runs on the newcomer alone.
        streams = {i: up.submit(path, body) for i, (path, body) in enumerate(requests)}
        up.kill("w0", signal.SIGKILL)
        up.http.wait(streams.values(), STREAMS_S)
        check_same(references, streams, "on weights from a peer")


def test_ranks_of_other_layouts_fetch_what_others_dropped_not(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with cluster("peers", workers=3, shape="tp3") as up:
        settle(up, 3, "tp3 serves")
        references = run(up, requests)
        before = weight_bytes(up)
        check_equal(before.get("peer", 0), 0, "bytes from peers while nobody had any")
        for shape in "pp3", "tp2", "tp3":
            force(up, shape, 2 if shape == "tp2" else 3)
            check_same(references, run(up, requests), shape)
        after = weight_bytes(up)
        tap.note(f"weights, bytes: {before} before, {after} after pp3, tp2, tp3")
        check(after["peer"] > 0, "no rank has got weights from another one")


class Killed:
    """A failpoint: the victim dies at the point, once, when it is armed."""

    def __init__(self, point, victim):
        self.dir = tempfile.mkdtemp(prefix="godwit-weights-")
        self.mark, self.armed = os.path.join(self.dir, "died"), os.path.join(self.dir, "armed")
        self.env = {
            "GODWIT_FAILPOINT": f"{victim} {point}",
            "GODWIT_FAILPOINT_MARK": self.mark,
            "GODWIT_FAILPOINT_FROM": self.armed,
        }

    def __enter__(self):
        os.environ.update(self.env)
        return self

    def arm(self):
        open(self.armed, "w").close()

    def died(self):
        return os.path.exists(self.mark)

    def __exit__(self, *exc):
        for name in self.env:
            del os.environ[name]
        for name in os.listdir(self.dir):
            os.unlink(os.path.join(self.dir, name))
        os.rmdir(self.dir)


def die_in_the_middle(args, point, victim):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with Killed(point, victim) as killed, cluster("peers") as up:
        settle(up, 2, "both workers serve")
        references = run(up, requests)
        killed.arm()
        replace(up, "w1")
        up.wait(killed.died, SETTLE_S, f"{victim} has died at '{point}'")
        settle(up, 2, "two workers serve again")
        check_same(references, run(up, requests), f"after a death at '{point}'")


def test_source_killed_in_the_middle_is_replaced_by_the_disk(args):
    die_in_the_middle(args, "cell served", "w0")


def test_newcomer_killed_in_the_middle_costs_nobody_anything(args):
    die_in_the_middle(args, "cell came", "w1")


def test_weights_from_disk_alone_when_told_so(args):
    with cluster("disk") as up:
        settle(up, 2, "both workers serve")
        replace(up, "w1")
        settle(up, 2, "the newcomer serves")
        check_equal(weight_bytes(up).get("peer", 0), 0, "bytes from peers")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=11, help="of the requests (default: %(default)s)")


TESTS = [
    test_newcomer_gets_all_its_weights_from_a_peer_and_serves_the_same,
    test_ranks_of_other_layouts_fetch_what_others_dropped_not,
    test_source_killed_in_the_middle_is_replaced_by_the_disk,
    test_newcomer_killed_in_the_middle_costs_nobody_anything,
    test_weights_from_disk_alone_when_told_so,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, arguments))
