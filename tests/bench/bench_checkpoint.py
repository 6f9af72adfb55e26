#!/usr/bin/env python3
"""What storing pages costs the streams: decode rate, and the worker's processor time per token, with and without.

Two workers with a Redis each, real processes: one stores what it seals under its default budget, one stores nothing. They
decode the same streams in turns (A B A B), never both at once. The share of processor time is the one to believe on a
machine that does other things too. Printed are medians, and how many blocks were stored of those that were sealed.
usage: bench_checkpoint.py MODEL [--streams 1,16] [--tokens N] [--rounds N]
MODEL: as of bench_moves.py
"""

import argparse
import contextlib
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
from bench_moves import Bench  # noqa: E402

PROMPT = 64  # tokens
WAIT_S = 600.0


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Side(Bench):
    """One worker and its store."""

    def __init__(self, args, stack, flags):
        super().__init__(args, stack, "store")
        self.flags = flags
        self.pid = self.workers[self.add_worker()].pid
        self.round = 0

    def streams(self, count, tokens):
        self.round += 1
        for i in range(count):
            prompt = [3 + (i * 31 + self.round * 17 + k * 7) % 400 for k in range(PROMPT)]
            body = {"model": self.name, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                    "logprobs": 0, "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
            yield self.http.submit(client.Completion("/v1/completions", body))

    def decode(self, count, tokens):
        """(tokens per second, the worker's processor time per token in ms), from when all decode until one has ended."""
        streams = list(self.streams(count, tokens))
        self.http.wait_for(lambda: all(len(s.times) > 2 for s in streams), WAIT_S)
        began, cpu, had = time.monotonic(), cpu_s(self.pid), sum(len(s.times) for s in streams)
        self.http.wait_for(lambda: any(s.closed for s in streams), WAIT_S)
        made = sum(len(s.times) for s in streams) - had
        rate, cost = made / (time.monotonic() - began), (cpu_s(self.pid) - cpu) / made * 1e3
        self.http.wait(streams, WAIT_S)
        return rate, cost


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--streams", default="1,16")
    ap.add_argument("--tokens", type=int, default=128)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--threads", type=int, default=0)
    ap.add_argument("--pin", action="store_true", help="as in bench_moves.py")
    ap.add_argument("--kv-tokens", type=int, default=20000)
    args = ap.parse_args()
    with contextlib.ExitStack() as stack:
        on, off = Side(args, stack, []), Side(args, stack, ["--checkpoint-share", "0"])
        for count in map(int, args.streams.split(",")):
            pairs = [(on.decode(count, args.tokens), off.decode(count, args.tokens)) for _ in range(args.rounds + 1)][1:]
            rates = [(a[0], b[0]) for a, b in pairs]
            costs = [(a[1], b[1]) for a, b in pairs]
            for name, unit, values in (("rate", "tokens/s", rates), ("cpu", "ms/token", costs)):
                ours, ref = (statistics.median(v) for v in zip(*values))
                ratio = statistics.median(a / b for a, b in values)
                print(f"bench checkpoint_{name}_{count} ours={ours:.2f} ref={ref:.2f} ratio={ratio:.4f} unit={unit}", flush=True)
        found = on.blocks()
        print(f"# blocks: {', '.join(f'{k} {v}' for k, v in sorted(found.items()))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
