#!/usr/bin/env python3
"""int8 and fp8 weights, int8 KV: streams of workers that quantized both are the same when they are moved with their KV and through a kill,
the newcomer has its weights from its peer, and a worker of another format of either is refused with a line that says why."""

import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import compare  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import MODEL, Cluster, program, sanitizer_env  # noqa: E402
from tap import check, check_equal  # noqa: E402

STREAMS, TOKENS = 6, 96
STREAMS_S, SETTLE_S, REFUSED_S = 120.0, 60.0, 60.0
OTHER_MODEL = 12  # exit status of a worker that is refused for it


def settled(up, workers):
    """Do so many workers serve, all of what is planned and nothing else?"""
    now = up.admin("/admin/layout")
    states = [p["state"] for p in now["pipelines"]]
    ranks = sum(len(p["ranks"]) for p in now["pipelines"])
    return states and all(s == "serving" for s in states) and ranks == workers and not now["plan"]["under_way"]


def settle(up, workers, what):
    up.wait_workers(workers, SETTLE_S)
    up.wait(lambda: settled(up, workers), SETTLE_S, what)


def check_same(references, streams, what):
    verdict = compare.judge(references, streams)
    check(verdict.good(), f"{what}: {verdict}")


def peer_bytes(up):
    text = client.call(up.host, up.admin_port, "GET", "/metrics")[2]
    found = re.search(r'^godwit:weight_bytes_total\{[^}]*from="peer"\} ([\d.e+]+)', text, re.M)
    return float(found.group(1)) if found else 0.0


def refused(up, weights, kv):
    """(exit status, what it said) of a worker with these formats that dials this cluster."""
    with open(f"/proc/{up.workers()['w0']}/cmdline") as f:
        flags = f.read().split("\0")
    argv = [program("godwit-worker"), "--model", MODEL, "--controller", up.worker_endpoint, "--worker-id", "stranger"]
    argv += ["--cluster-key-file", flags[flags.index("--cluster-key-file") + 1], "--threads", "1"]
    argv += ["--weights", weights, "--kv", kv]
    env = {**os.environ, **sanitizer_env(up.dir)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=REFUSED_S)
    return done.returncode, done.stdout + done.stderr


def check_refused(up, weights, kv):
    status, text = refused(up, weights, kv)
    check_equal(status, OTHER_MODEL, f"exit status of a worker of --weights {weights} --kv {kv}")
    check("--weights or --kv of another format" in text, f"it does not say why: {text[-500:]}")


def lose_w1(up, sig, requests, references, what):
    """The streams are what they were when w1 is lost under them; a newcomer takes its place."""
    before = up.workers()["w1"]
    streams = {i: up.submit(path, body) for i, (path, body) in enumerate(requests)}
    up.wait(lambda: up.requests_on().get("w1", 0) > 0, SETTLE_S, "w1 has requests")
    up.kill("w1", sig)
    up.http.wait(streams.values(), STREAMS_S)
    check_same(references, streams, what)
    up.wait(lambda: up.workers("up").get("w1", before) != before, SETTLE_S, "w1 is replaced")
    settle(up, 2, "the newcomer serves")


def test_int8_streams_are_the_same_moved_and_through_a_kill_and_strangers_are_refused(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    extra = ["--weights", "int8", "--kv", "int8", "--weights-from", "peers", "--kv-restore", "fetch"]
    extra += ["--layout", "replicas"]
    with Cluster(variant="asan", workers=2, replace_after_s=0.5, term_grace_s=5, extra=extra) as up:
        settle(up, 2, "both workers serve")
        references = load.run_once(up.http, requests, STREAMS, STREAMS_S)
        lose_w1(up, signal.SIGTERM, requests, references, "moved")
        check(up.admin("/admin/stats")["kv_tokens"]["peer"] > 0, "no KV was moved")
        lose_w1(up, signal.SIGKILL, requests, references, "through a kill")
        up.wait(lambda: peer_bytes(up) > 0, SETTLE_S, "weights have come from a peer")
        check_refused(up, "file", "int8")
        check_refused(up, "int8", "file")
        check_refused(up, "fp8", "int8")


def test_fp8_streams_are_the_same_through_a_kill(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    extra = ["--weights", "fp8", "--weights-from", "peers", "--layout", "replicas"]
    with Cluster(variant="asan", workers=2, replace_after_s=0.5, term_grace_s=5, extra=extra) as up:
        settle(up, 2, "both workers serve")
        references = load.run_once(up.http, requests, STREAMS, STREAMS_S)
        lose_w1(up, signal.SIGKILL, requests, references, "through a kill")
        up.wait(lambda: peer_bytes(up) > 0, SETTLE_S, "weights have come from a peer")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=13, help="of the requests (default: %(default)s)")


TESTS = [test_int8_streams_are_the_same_moved_and_through_a_kill_and_strangers_are_refused,
         test_fp8_streams_are_the_same_through_a_kill]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, arguments))
