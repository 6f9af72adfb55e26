#!/usr/bin/env python3
"""Godwit's engine beside llama.cpp's, on the same random weights: prefill of 512 tokens, decoding of 1, 8 and 16 sequences.

    tests/bench/bench_peers.py build/llama-1b           # `make bench-peers` prepares what this needs, then runs it

bf16 weights next to llama.cpp's bf16, int8 ones next to its q8_0. Each side is a process of its own (peer_godwit, which is the
engine without HTTP; peer_llama.py) that has loaded everything before anything is timed; the one waits while the other
runs, in turns (A B A B), with as many threads, after a run of each load to warm up. Figures are medians over rounds. What
the machine can do is probed before and after, in the same run: where the two differ much, or the load is not near 0, the
figures are worth little.

Prints `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=tokens/s` for each load, and a table that says which ratios the project
wants. Both get the same prompts; how many first tokens they agree on is said, too: that they compute the same function.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys

import report

HERE = os.path.dirname(os.path.abspath(__file__))
GODWIT = os.path.join(os.environ.get("GODWIT_BUILD") or os.path.join(report.ROOT, "build"), "release/tests/bench/peer_godwit")
LLAMA = os.path.join(HERE, "peer_llama.py")

# name: (sequences, tokens of each prompt, tokens of each answer; 1: the prompt is what is timed)
LOADS = {"prefill512": (1, 512, 1), "one": (1, 32, 9), "8": (8, 32, 6), "16": (16, 32, 5)}
# Of small models (make_model.py's tiny-15m), which are through with the others before a clock has moved; by --loads alone
ALL_LOADS = LOADS | {"one_long": (1, 32, 257), "16_long": (16, 32, 65)}
FORMATS = {"bf16": ("file", "bf16.gguf"), "int8": ("int8", "q8_0.gguf"), "bf16amx": ("bf16amx", "bf16.gguf")}
# The least ratios that the project wants, with two threads; `bandwidth`: of what is read for one sequence to what was probed
GATES = {
    ("bf16", "one"): 1.0,
    ("bf16", "16"): 1.5,
    ("bf16", "prefill512"): 1.5,
    ("int8", "one"): 1.1,
    ("int8", "16"): 3.0,
    ("int8", "prefill512"): 4.0,
    ("bf16", "bandwidth"): 0.9,
}
GATE_THREADS = 2


class Peer:
    """A process that answers lines."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.name = self._answer("ready")

    def _answer(self, verb):
        line = self.process.stdout.readline()
        if not line.startswith(verb + " "):
            raise RuntimeError(f"{self.process.args[0]}: no `{verb}` but {line!r}")
        return line.removeprefix(verb).strip()

    def ask(self, question, verb):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self._answer(verb)

    def run(self, threads, load, salt):
        """Seconds, and the first token of each sequence."""
        sequences, prompt, tokens = load
        words = self.ask(f"run {threads} {sequences} {prompt} {tokens} {salt}", "done").split()
        return float(words[0]), words[1:]

    def probe(self, threads):
        """What the machine can do: {read, fma, bf16dot, vnni}."""
        words = self.ask(f"probe {threads}", "probe").split()
        return {k: float(v) for k, v in (w.split("=") for w in words)}

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.returncode}")


def timed_tokens(load):
    sequences, prompt, tokens = load
    return sequences * (prompt if tokens == 1 else tokens - 1)


class Run:
    """One format on both sides."""

    def __init__(self, name, model, python, rounds):
        weights, gguf = FORMATS[name]
        self.name, self.rounds, self.salt = name, rounds, 0
        self.agreed = self.compared = 0
        self.ours = Peer([GODWIT, model, weights])
        self.theirs = Peer([python, LLAMA, os.path.join(model, gguf)])
        self.weight_bytes = float(re.search(r"bytes=(\d+)", self.ours.name).group(1))

    def both(self, threads, load):
        """Tokens per second of both, on the same prompts."""
        self.salt += 1
        ours_s, ours = self.ours.run(threads, load, self.salt)
        theirs_s, theirs = self.theirs.run(threads, load, self.salt)
        self.agreed += sum(a == b for a, b in zip(ours, theirs))
        self.compared += len(ours)
        return timed_tokens(load) / ours_s, timed_tokens(load) / theirs_s

    def measure(self, threads, load):
        pairs = [self.both(threads, load) for _ in range(self.rounds)]
        return tuple(statistics.median(side) for side in zip(*pairs))

    def close(self):
        self.ours.close()
        self.theirs.close()


def show_probe(run, when, threads):
    rates = run.ours.probe(threads)
    print(
        f"probe {run.name}_{when}_t{threads} read={rates['read']:.1f} GB/s fma={rates['fma']:.0f} GFLOP/s "
        f"bf16dot={rates['bf16dot']:.0f} GFLOP/s vnni={rates['vnni']:.0f} GOP/s",
        flush=True,
    )
    return rates


def row(name, load, threads, ours, ref, unit, rows):
    """Prints a line, and keeps it for the table."""
    gate = GATES.get((name, load)) if threads == GATE_THREADS else None
    print(report.bench_line(f"peer_{name}_{load}_t{threads}", ours, ref, unit), flush=True)
    wanted = "" if gate is None else f"{gate:.1f} {'met' if ours / ref >= gate else 'MISSED'}"
    rows.append([f"{name} {load}", threads, f"{ours:.1f}", f"{ref:.1f}", unit, f"{ours / ref:.2f}", wanted])


def compare(run, thread_counts, loads, rows):
    before = {t: show_probe(run, "before", t) for t in thread_counts}
    one = {}
    for name in loads:
        run.both(max(thread_counts), ALL_LOADS[name])
    for threads in thread_counts:
        for name in loads:
            ours, ref = run.measure(threads, ALL_LOADS[name])
            if name == "one":
                one[threads] = ours
            row(run.name, name, threads, ours, ref, "tokens/s", rows)
    for t in thread_counts:
        read = (before[t]["read"] + show_probe(run, "after", t)["read"]) / 2
        if t in one:
            row(run.name, "bandwidth", t, one[t] * run.weight_bytes * 1e-9, read, "GB/s", rows)
    print(f"# {run.name}: the same first token in {run.agreed} of {run.compared} sequences", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", help="with the two GGUF files in it")
    ap.add_argument("--formats", default="bf16,int8", help="of bf16, int8 and bf16amx (profile cpu-bf16amx-1; default: %(default)s)")
    ap.add_argument("--loads", default=",".join(LOADS), help=f"of {', '.join(ALL_LOADS)} (default: %(default)s)")
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--short", action="store_true", help="two threads alone, two rounds")
    ap.add_argument("--python", default=sys.executable, help="one that has llama_cpp")
    args = ap.parse_args()
    thread_counts = [2] if args.short else [int(t) for t in args.threads.split(",")]
    rounds, rows = (2 if args.short else args.rounds), []
    print(report.setting())
    report.warn_if_busy()
    for name in args.formats.split(","):
        run = Run(name, args.model, args.python, rounds)
        print(f"# {name}: {run.ours.name} beside {run.theirs.name}", flush=True)
        compare(run, thread_counts, args.loads.split(","), rows)
        run.close()
    print(report.setting())
    for line in report.table(["load", "threads", "ours", "llama.cpp", "unit", "ratio", "wanted"], rows):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
