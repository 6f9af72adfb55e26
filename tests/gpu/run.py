#!/usr/bin/env python3
"""Tests or measures the CUDA backend on a GPU; says "no GPU: skipped", and succeeds, where there is none.

test    tests/gpu/test_gpu.c, then the same under compute-sanitizer (memcheck, racecheck), where that is installed
bench   tests/gpu/bench_gpu.c, then what PyTorch and transformers do with the same shapes, where they are (beside_torch.py)

usage: tests/gpu/run.py test|bench VERSION cuda:N"""
import os
import shutil
import subprocess
import sys

LIMIT_S = 1800
SANITIZERS = ("memcheck", "racecheck")
ENV = {**os.environ, "LD_LIBRARY_PATH": "build/release:" + os.environ.get("LD_LIBRARY_PATH", "")}


def run(command):
    """Exit status and what it printed, which is shown, too."""
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=LIMIT_S,
                       env=ENV)
    print(p.stdout, end="", flush=True)
    return p.returncode, p.stdout


def run_first(program):
    """Exit status, and whether there is more to do. A machine that has a driver may not skip: its library is missing, say."""
    status, text = run(program)
    skipped = "no GPU: skipped" in text
    if skipped and os.path.exists("/dev/nvidiactl"):
        print("there is a GPU, and it cannot be used (make cuda)")
        status = 1
    return status, status == 0 and not skipped


def test(version, gpu):
    program = ["build/release/tests/gpu/test_gpu", version, gpu]
    status, goes_on = run_first(program)
    if not goes_on:
        return status
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    for tool in SANITIZERS if sanitizer else ():
        print(f"# compute-sanitizer {tool}", flush=True)
        status, _ = run([sanitizer, "--tool", tool, "--error-exitcode", "1", *program])
        if status != 0:
            return status
    return 0


def bench(version, gpu):
    status, goes_on = run_first(["build/release/tests/gpu/bench_gpu", version, gpu])
    if not goes_on:
        return status
    status, _ = run([sys.executable, "tests/gpu/beside_torch.py", gpu])
    return status


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("test", "bench"):
        sys.exit(__doc__)
    sys.exit((test if sys.argv[1] == "test" else bench)(*sys.argv[2:]))
