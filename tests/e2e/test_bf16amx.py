#!/usr/bin/env python3
"""cpu-bf16amx-1 on unlike machines: streams of a worker with the best instruction set that there is go on, with their KV and without,
on one that is held to AVX2, as if they had never moved; and what does not go with the profile is refused in a line that says so."""

import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import MODEL, Cluster, program, sanitizer_env  # noqa: E402
from tap import check, check_equal  # noqa: E402
from test_int8 import check_same, settle, settled  # noqa: E402

PROFILE = "cpu-bf16amx-1"
STREAMS, TOKENS = 4, 96
STREAMS_S, SETTLE_S, ENDED_S = 120.0, 60.0, 60.0
WRONG = 1  # exit status for flags that do not go together


def worker_argv(up, *flags):
    with open(f"/proc/{up.workers()['w0']}/cmdline") as f:
        given = f.read().split("\0")
    argv = [program("godwit-worker"), "--model", MODEL, "--controller", up.worker_endpoint, "--threads", "1", "--worker-id", "held"]
    return argv + ["--cluster-key-file", given[given.index("--cluster-key-file") + 1], "--profile", PROFILE, *flags]


def check_refused(up, *flags):
    env = {**os.environ, **sanitizer_env(up.dir)}
    done = subprocess.run(worker_argv(up, *flags), env=env, capture_output=True, text=True, timeout=ENDED_S)
    said = done.stdout + done.stderr
    check_equal(done.returncode, WRONG, f"exit status with {flags}: {said[-500:]}")
    check(f"--profile {PROFILE} does not go with {' '.join(flags)}" in said, f"it does not say why: {said[-500:]}")


def move_all(up, sig, requests, references, what):
    """The streams are what they were when w0, which has them, is lost, and the worker held to AVX2 is there alone."""
    streams = {i: up.submit(path, body) for i, (path, body) in enumerate(requests)}
    up.wait(lambda: up.requests_on().get("w0", 0) > 0, SETTLE_S, "w0 has requests")
    up.kill("w0", sig)
    up.http.wait(streams.values(), STREAMS_S)
    check_same(references, streams, what)


def test_streams_are_the_same_on_a_worker_of_another_instruction_set(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    extra = ["--profile", PROFILE, "--kv-restore", "fetch", "--layout", "replicas"]
    for sig, what in ((signal.SIGTERM, "moved"), (signal.SIGKILL, "through a kill")):
        with Cluster(variant="asan", workers=1, replace_after_s=600, term_grace_s=5, extra=extra) as up:
            settle(up, 1, "the worker serves")
            references = load.run_once(up.http, requests, STREAMS, STREAMS_S)
            if sig == signal.SIGTERM:
                check_refused(up, "--weights", "int8")
                check_refused(up, "--kv", "int8")
            env = {**os.environ, **sanitizer_env(up.dir)}
            held = subprocess.Popen(worker_argv(up, "--isa", "avx2"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                up.wait(lambda: settled(up, 2), SETTLE_S, "both serve")
                move_all(up, sig, requests, references, what)
            finally:
                held.terminate()
                held.wait(ENDED_S)


def arguments(ap):
    ap.add_argument("--seed", type=int, default=17, help="of the requests (default: %(default)s)")


TESTS = [test_streams_are_the_same_on_a_worker_of_another_instruction_set]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, arguments))
