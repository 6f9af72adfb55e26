#!/usr/bin/env python3
"""Draws what tests/bench/bench_moves.py has measured: a client's added gap against the length of context, by where the KV is.

usage: chart_moves.py RESULTS.json OUT.png      (wants python3-matplotlib)
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

WAYS = {
    "recompute": ("computed again", "#b04a3a", "s"),
    "store": ("killed without notice, KV in the store", "#c98a1b", "^"),
    "peer": ("announced, KV copied at the cutover", "#3b7dd8", "o"),
    "precopy": ("announced, KV copied ahead", "#2c8a57", "D"),
}
FLOOR_MS = 1.0  # a logarithmic axis has no zero


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as f:
        results = json.load(f)
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=130)
    for way, (label, color, marker) in WAYS.items():
        points = sorted((r["tokens"], max(r["added_ms"], FLOOR_MS)) for r in results if r["way"] == way)
        if points:
            axes.plot(*zip(*points), label=label, color=color, marker=marker, linewidth=2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({r["tokens"] for r in results})
    axes.set_xticks(ticks, [f"{t // 1024}k" if t >= 1024 else str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("tokens of context")
    axes.set_ylabel("added gap between two tokens, ms")
    axes.set_title("What a client sees when its worker goes")
    axes.grid(True, color="#dddddd")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
