#!/usr/bin/env python3
"""How long clients wait when a worker is killed: from the kill to the next token of each stream that ran on it.

Four workers, 16 endless streams, one SIGKILL a round. Which streams ran on the killed worker is not visible to clients;
the controller's timeline says how many were moved, and those that waited longest are taken: never too good a figure.
Prints a `bench` line for the median and one for the longest wait; the reference is the aim of 2 s.
"""

import argparse
import os
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import workload  # noqa: E402
from cluster import Cluster  # noqa: E402

AIM_S = 2.0
STREAMS = 16
TOKENS = 1900  # more than a stream can make in a round
FIRST_TOKENS = 10  # each stream is well under way at the kill
ROUND_S = 60.0


def one_round(up, seed):
    """Waits, in seconds, of the streams that were moved."""
    streams = [up.submit(path, body) for path, body in workload.stories(STREAMS, seed, TOKENS)]
    up.http.wait_for(lambda: all(s.tokens() >= FIRST_TOKENS for s in streams), ROUND_S)
    on, known = up.requests_on(), len(up.events.list)
    victim = max(up.workers("up"), key=lambda w: on.get(w, 0))
    killed_s = time.monotonic()
    up.kill(victim, signal.SIGKILL)
    lost = up.wait_event(
        lambda e: e["kind"] == "worker_lost" and e["worker"] == victim, ROUND_S, "the kill is found", known
    )
    # Tokens that were on their way at the kill may arrive until the loss is known; none of that worker's does later.
    up.wait(lambda: all(s.closed or s.times[-1] > lost["at_s"] for s in streams), ROUND_S, "streams go on")
    up.wait(lambda: moved(up, known), ROUND_S, "requests are moved")
    waits = sorted(next((t for t in s.times if t > lost["at_s"]), s.closed_s) - killed_s for s in streams)
    count = moved(up, known)
    for s in streams:
        up.http.cancel(s)
    up.wait_workers(4, ROUND_S)
    up.wait(lambda: not any(up.requests_on().values()), ROUND_S, "nothing runs any more")
    return waits[-count:]


def moved(up, since):
    return sum(e["kind"] == "request_moved" for e in up.events.list[since:])


def bench_line(name, ours, ref, unit):
    return f"bench {name} ours={ours:.4g} ref={ref:.4g} ratio={ours / ref:.4g} unit={unit}"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--variant", choices=["release", "asan"], default="release")
    ap.add_argument("--rounds", type=int, default=6)
    args = ap.parse_args()
    waits = []
    with Cluster(variant=args.variant, workers=4, replace_after_s=0.5) as up:
        for r in range(args.rounds):
            waits += one_round(up, r)
    print(f"{len(waits)} streams moved in {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(bench_line("kill_to_next_token_s", statistics.median(waits), AIM_S, "s"))
    print(bench_line("kill_to_next_token_max_s", max(waits), AIM_S, "s"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
