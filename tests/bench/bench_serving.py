#!/usr/bin/env python3
"""Serving over HTTP: 16 clients at once, prompts of 70 tokens, 48 tokens each, streamed; beside llama.cpp's server.

    tests/bench/bench_serving.py build/llama-1b [--python build/peers/bin/python] [--profile cpu-bf16amx-1] [--weights int8]

Ours is the whole stack: `godwit up` with controller and one worker of two threads. Theirs is the server of llama-cpp-python
(`python -m llama_cpp.server`), on the same weights and as many threads. That server computes one request at a time: what it does
for 16 clients is 16 times what it does for one, and its first tokens come late because requests wait. (llama.cpp's own
server, which batches, is not in the package.) So it is beside us as what one gets with that package, not as what llama.cpp
can do: that is bench_peers.py. Without --python there is no reference, and the aims of the project's reference machine are printed.

Clients are of this process: real sockets, strict about HTTP and events; what they see is what counts. Figures: tokens per
second over all, from the first request to the last token; median of the time to the first token; the 99th percentile of the time
between two events of a stream.
"""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

import report

sys.path.insert(0, os.path.join(report.ROOT, "tests/lib"))
import client  # noqa: E402
from cluster import Cluster  # noqa: E402

CLIENTS, PROMPT, ANSWER, THREADS = 16, 70, 48, 2
DEADLINE_S = 900.0
START_S = 180.0
# On the reference machine (two cores of a Zen 5)
AIMS = {"tokens_s": 80.0, "ttft_p50_ms": 3500.0, "gap_p99_ms": 198.0}
UNITS = {"tokens_s": "tokens/s", "ttft_p50_ms": "ms", "gap_p99_ms": "ms"}


def request(i):
    """Prompts differ from their first byte on: none begins as another."""
    prompt = (chr(ord("a") + i % 26) + f" request number {i} of some clients that all ask at once, and wait").ljust(PROMPT, ".")
    return {
        "prompt": prompt[:PROMPT],
        "max_tokens": ANSWER,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


def check(streams):
    wrong = [s.error or "not whole" for s in streams if not s.whole()]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(streams)} streams failed, the first: {wrong[0]}")


def measure(host, port, model):
    """{figure: value} of one wave of requests."""
    http = client.Client(host, port).start()
    warm = http.submit(client.Completion("/v1/completions", {**request(99), "model": model, "max_tokens": 4}))
    http.wait([warm], DEADLINE_S)
    check([warm])
    start_s = time.monotonic()
    streams = [http.submit(client.Completion("/v1/completions", {**request(i), "model": model})) for i in range(CLIENTS)]
    http.wait(streams, DEADLINE_S)
    http.stop()
    check(streams)
    gaps = [b - a for s in streams for a, b in zip(text_times(s), text_times(s)[1:])]
    return {
        "tokens_s": CLIENTS * ANSWER / (max(s.times[-1] for s in streams) - start_s),
        "ttft_p50_ms": statistics.median(s.first_s - start_s for s in streams) * 1e3,
        "gap_p99_ms": statistics.quantiles(gaps, n=100)[98] * 1e3,
    }


def text_times(stream):
    """Arrivals of events, less [DONE]'s and what comes with it."""
    return [t for t in stream.times if t >= stream.first_s]


def serve_ours(model, extra):
    with Cluster(variant="release", workers=1, model=model, threads_per_worker=THREADS, ready_s=START_S, extra=extra) as up:
        return measure(up.host, up.port, os.path.basename(os.path.abspath(model)))


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, process):
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"llama_cpp.server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError("llama_cpp.server does not listen")


def serve_theirs(python, gguf):
    port = free_port()
    flags = {
        "--model": gguf,
        "--port": str(port),
        "--n_threads": str(THREADS),
        "--n_threads_batch": str(THREADS),
        "--n_ctx": "1024",
        "--interrupt_requests": "false",
        "--verbose": "false",
    }
    argv = [python, "-m", "llama_cpp.server", *(word for pair in flags.items() for word in pair)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        return measure("127.0.0.1", port, gguf)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--weights", default="file", help="of our workers: file, int8, fp8")
    ap.add_argument("--profile", help="of our workers, cpu-bf16amx-1, say")
    ap.add_argument("--python", help="one that has llama_cpp with its server")
    args = ap.parse_args()
    print(report.setting())
    report.warn_if_busy()
    extra = ["--weights", args.weights, *(["--profile", args.profile] if args.profile else [])]
    kind = args.profile or ("bf16" if args.weights == "file" else args.weights)
    ours = serve_ours(args.model, extra)
    for name, value in ours.items():
        print(report.bench_line(f"serving_{kind}_{name}_to_aim", value, AIMS[name], UNITS[name]), flush=True)
    if args.python:
        theirs = serve_theirs(args.python, os.path.join(args.model, "bf16.gguf"))
        print("# beside llama_cpp.server, which computes one request at a time")
        for name, value in ours.items():
            print(report.bench_line(f"serving_{kind}_{name}", value, theirs[name], UNITS[name]))
    print(report.setting())
    return 0


if __name__ == "__main__":
    sys.exit(main())
