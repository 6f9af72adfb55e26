"""What benchmark scripts print: the `bench` line, what it ran on, a table."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def bench_line(name, ours, ref, unit):
    return f"bench {name} ours={ours:.4g} ref={ref:.4g} ratio={ours / ref:.3f} unit={unit}"


def _cpu():
    with open("/proc/cpuinfo") as f:
        fields = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    flags = fields.get("flags", "").split()
    wide = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if f in flags]
    return f"{fields.get('model name', 'unknown processor')}, {os.cpu_count()} cores ({' '.join(wide)})"


def commit():
    try:
        return subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


IDLE_LOAD = 0.5


def setting():
    """Machine, commit and load in one line."""
    return f"# {_cpu()}; commit {commit()}; load {os.getloadavg()[0]:.2f}"


def warn_if_busy():
    """Before anything was started: threads that wait for each other by spinning, as OpenMP's do, lose most on shared cores."""
    if os.getloadavg()[0] > IDLE_LOAD:
        print("# THE MACHINE IS BUSY: figures say little, least of all those of llama.cpp and oneDNN", flush=True)


def table(head, rows):
    """Columns as wide as they need to be; the first one to the left, the others to the right."""
    cells = [head] + [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        yield "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
