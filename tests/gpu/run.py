#!/usr/bin/env python3
"""Tests or measures the CUDA backend on a GPU; says "no GPU: skipped", and succeeds, where there is none.

test    tests/gpu/test_gpu.c, then the same under compute-sanitizer (memcheck, racecheck), where that is installed
bench   tests/gpu/bench_gpu.c, then PyTorch's products and attention of the same shapes, where torch and CUDA are

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


def beside_torch(gpu):
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        return print("# no PyTorch: nothing to compare with")
    if not torch.cuda.is_available():
        return print("# PyTorch has no CUDA: nothing to compare with")
    device = torch.device(gpu)

    def seconds(work):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        best = float("inf")
        for _ in range(10):
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        return best

    def random(*shape):
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    for m in (1, 16, 64, 512, 4096):
        x, w = random(m, 4096), random(28672, 4096)
        print(f"torch matmul_m{m}: {2 * m * 28672 * 4096 / seconds(lambda: x @ w.T) / 1e12:.4g} TFLOP/s")
    for rows in (2048, 8192):
        q, k, v = random(1, 32, rows, 128), random(1, 32, rows, 128), random(1, 32, rows, 128)
        took = seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        print(f"torch prefill_{rows}: {2 * 32 * 128 * rows * rows / took / 1e12:.4g} TFLOP/s")
    return None


def bench(version, gpu):
    status, goes_on = run_first(["build/release/tests/gpu/bench_gpu", version, gpu])
    if goes_on:
        beside_torch(gpu)
    return status


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("test", "bench"):
        sys.exit(__doc__)
    sys.exit((test if sys.argv[1] == "test" else bench)(*sys.argv[2:]))
