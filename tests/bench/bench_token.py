#!/usr/bin/env python3
"""From a drawn token to the client's socket: one stream, a token every 2 ms, through the worker's link and a real controller.

    tests/bench/bench_token.py [--rounds 5]

The engine is left out: tests/bench/token_socket.c is worker and client, so that both times are of one clock. Three threads have
something to do one after the other (the engine's, the controller's, the client's): with two cores there is one to spare. Prints a
`bench` line of the median, its reference is the aim of 30 us, and the other percentiles.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys

import report

sys.path.insert(0, os.path.join(report.ROOT, "tests/lib"))
import control  # noqa: E402
from cluster import program  # noqa: E402

AIM_US = 30.0
TOKENS, PACE_US = 1000, 2000
TIMEOUT_S = 60.0


def one_round():
    """Median, 90th and 99th percentile, and the median of a wake-up, in us."""
    with control.Control(variant="release", journal="none") as c:
        c.start_controller()
        argv = [program("tests/bench/token_socket", "release"), *c.fake_worker_flags()]
        argv += ["--http-port", str(c.controllers["c0"].port), "--tokens", str(TOKENS), "--pace-us", str(PACE_US)]
        p = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        found = re.search(r"latency_us ([\d.]+) ([\d.]+) ([\d.]+) wake_us ([\d.]+)", p.stdout)
        if not found:
            raise RuntimeError(f"token_socket: status {p.returncode}: {p.stderr.strip()}")
        return [float(x) for x in found.groups()]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=5)
    args = ap.parse_args()
    report.warn_if_busy()
    print(report.setting())
    rounds = [one_round() for _ in range(args.rounds)]
    p50, p90, p99, wake = (statistics.median(r[i] for r in rounds) for i in range(4))
    print(f"probe token_to_socket wake={wake:.1f} us  # of a thread that sleeps: the controller's and the client's are on the way")
    print(f"# of {TOKENS} tokens, medians of {args.rounds} rounds: 90% within {p90:.1f} us, 99% within {p99:.1f} us")
    print(report.bench_line("token_to_socket_us", p50, AIM_US, "us"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
