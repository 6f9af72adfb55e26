#!/usr/bin/env python3
"""The gap that a client sees when its request loses its worker, by where the request's KV is then.

Real processes: a controller, workers of all cores each, a Redis for the way `store`; one stream. For each length of
context the prompt is computed once; then the stream goes on from worker to worker, each new one with an empty pool:

    precopy    announced; pages flow while the old worker decodes
    peer       announced; pages flow at the cutover (--warm-timeout 0)
    store      kill -9; pages come from the store. The detection of the loss (1 s of silence, less when sockets close) is in it
    recompute  announced; the new worker computes everything again
    reshape    no worker goes: the two that are one pipeline change from tensor to pipeline parallelism and back, and all
               pages flow at the cutover
    upgrade    the controller's successor takes its place (--handover): the worker that has all pages is told to begin anew

Added gap = the gap around the move less the median gap between tokens before it. Prints a `bench` line each (the reference
is that median), and with --out a JSON file that tests/bench/chart_moves.py draws. The layouts of `reshape` take differently long for
a token: a second line, `…_slower`, reckons against the longer one's.
usage: bench_moves.py MODEL [--ways peer,reshape] [--contexts 1024,8192] [--rounds N] [--out FILE]
MODEL: a directory of tests/bench/make_model.py, to which it adds a tokenizer, or any other model
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
from cluster import MODEL, program  # noqa: E402

WAYS = ["precopy", "peer", "store", "recompute", "reshape", "upgrade"]
SHAPES = ["tp2", "pp2"]
TOKENS = 900  # of a stream: more than it will make
BEHIND = 5  # tokens at a stream's end, behind the move
BEFORE = 24  # tokens before its worker goes
AFTER = 6  # tokens after
WAIT_S = 1800.0  # computing 8k tokens of a 1B model takes minutes
GRACE_S = 120
PROMPT_IDS = 400  # small ids: any tokenizer knows them


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def with_tokenizer(model, work):
    """The model's directory, or one like it with the shipped model's tokenizer: ids are all that is looked at."""
    if os.path.exists(os.path.join(model, "tokenizer.json")):
        return model
    out = os.path.join(work, "model")
    os.makedirs(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(MODEL, name), out)
    for name in os.listdir(model):
        os.symlink(os.path.join(os.path.abspath(model), name), os.path.join(out, name))
    return out


def say(name, gap_ms, step_ms):
    print(f"bench client_gap_{name} ours={gap_ms:.1f} ref={step_ms:.1f} ratio={gap_ms / step_ms:.3f} unit=ms", flush=True)


def median_gap(times):
    return statistics.median(b - a for a, b in zip(times, times[1:]))


class Bench:
    """A controller, and workers one by one, of which each gets `flags` too."""

    flags = ()

    def __init__(self, args, stack, way):
        self.args, self.stack, self.way = args, stack, way
        self.flags = ["--pin"] if args.pin else self.flags
        self.work = stack.enter_context(tempfile.TemporaryDirectory(prefix="godwit-moves-"))
        self.model = with_tokenizer(args.model, self.work)
        self.key = os.path.join(self.work, "key")
        with open(self.key, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write("a cluster key for the bench of moves")
        self.port, self.admin, self.links = free_port(), free_port(), free_port()
        self.workers, self.count, self.redis = {}, 0, None
        if way == "store":
            self.start_redis()
        self.controller = self.start_controller()
        self.wait(self.listens, "the controller listens")
        self.http = stack.enter_context(client.Client("127.0.0.1", self.port))
        self.name = client.call("127.0.0.1", self.port, "GET", "/v1/models")[2]["data"][0]["id"]

    def start_controller(self):
        successor = ["--handover", os.path.join(self.work, "handover.sock")] if self.way == "upgrade" else []
        return self.run(
            "controller", "godwit-controller", "--model", self.model, "--port", self.port,
            "--admin-listen", f"127.0.0.1:{self.admin}", "--worker-listen", f"127.0.0.1:{self.links}",
            "--cluster-key-file", self.key, "--layout", SHAPES[0] if self.way == "reshape" else "replicas", "--journal", "none",
            "--warm-timeout", 60 if self.way == "precopy" else 0, *successor,
        )  # fmt: skip

    def start_redis(self):
        self.redis = os.path.join(self.work, "redis.sock")
        self.redis_pid = self.process("redis", ["redis-server", "--port", "0", "--unixsocket", self.redis, "--save", "", "--appendonly", "no"]).pid
        self.wait(lambda: os.path.exists(self.redis), "redis-server listens")

    def process(self, name, argv):
        log = self.stack.enter_context(open(os.path.join(self.work, name + ".log"), "wb"))
        p = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.stack.callback(lambda: (p.kill(), p.wait()))
        return p

    def run(self, name, what, *flags):
        return self.process(name, [program(what, "release"), *flags])

    def wait(self, condition, what):
        end = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"after {WAIT_S:.0f} s it does not hold that {what}")
            time.sleep(0.02)

    def ask(self, path):
        return client.call("127.0.0.1", self.admin, "GET", path)[2]

    def listens(self):
        with contextlib.suppress(OSError):
            return bool(self.ask("/admin/workers"))

    def serving(self):
        """Workers that lead a pipeline that serves."""
        layout = self.ask("/admin/layout")
        return [p["ranks"][0]["worker"] for p in layout["pipelines"] if p["state"] == "serving" and p["ranks"]]

    def generation(self):
        """Of the pipeline of two ranks that serves, alone; 0 while something changes."""
        pipelines = self.ask("/admin/layout")["pipelines"]
        whole = len(pipelines) == 1 and pipelines[0]["state"] == "serving" and len(pipelines[0]["ranks"]) == 2
        return pipelines[0]["generation"] if whole else 0

    def start_worker(self):
        name = f"w{self.count}"
        self.count += 1
        store = ["--store", f"redis+unix:{self.redis}"] if self.redis else ["--store-memory", 0]
        self.workers[name] = self.run(
            name, "godwit-worker", "--model", self.model, "--cluster-key-file", self.key,
            "--controller", f"127.0.0.1:{self.links}", "--worker-id", name, "--instance-id", f"i-{name}",
            "--threads", 1 if self.way == "reshape" else self.args.threads, "--kv-tokens", self.args.kv_tokens, "--term-grace-s", GRACE_S,
            "--kv-restore", "recompute" if self.way == "recompute" else "fetch", *store, *self.flags,
        )  # fmt: skip
        return name

    def add_worker(self):
        name = self.start_worker()
        self.wait(lambda: name in self.serving(), f"{name} serves")
        return name

    def blocks(self):
        """How many were sealed, and how many of these are stored."""
        sample = r'^godwit:checkpoint_blocks\{[^}]*state="(\w+)"\} (\d+)'
        return {state: int(n) for state, n in re.findall(sample, self.ask("/metrics"), re.M)}

    def begin(self, tokens):
        """A stream that has begun."""
        prompt = [3 + i * 7 % PROMPT_IDS for i in range(tokens)]
        body = {"model": self.name, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
                "logprobs": 0, "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip
        stream = self.http.submit(client.Completion("/v1/completions", body))
        self.http.wait_for(lambda: stream.closed or stream.tokens() >= BEFORE, WAIT_S)
        return stream

    def end(self, stream, at, went_s):
        """Its added gap since then and the median gap among its first `at` tokens; the same against the slower of those and its last, ms."""
        if stream.closed:
            raise AssertionError(f"the stream has ended before its worker went: {stream.error}")
        self.http.cancel(stream)
        before, behind = median_gap(stream.times[4:at]), median_gap(stream.times[-BEHIND:])
        longest = stream.longest_gap_s(went_s)
        if self.args.gaps:
            gaps = [f"{(b - a) * 1e3:.0f}" for a, b in zip(stream.times, stream.times[1:])]
            print(f"# ms between tokens: {' '.join(gaps[:at])} | {' '.join(gaps[at:])}", flush=True)
        slower = max(before, behind)
        return [s * 1e3 for s in (longest - before, before, longest - slower, slower)]

    def one_stream(self, tokens, old):
        """The worker that it is on now, and what it has seen, of a stream that `old` has begun and loses."""
        stream = self.begin(tokens)
        new = self.add_worker()
        if self.way == "store":
            time.sleep(self.args.settle_s)
        at = len(stream.times)
        self.workers[old].send_signal(signal.SIGKILL if self.way == "store" else signal.SIGTERM)
        went_s = time.monotonic()
        self.http.wait_for(lambda: stream.closed or self.moved(stream, at, old), WAIT_S)
        seen = self.end(stream, at, went_s)
        self.workers[old].wait(GRACE_S)
        return new, *seen

    def one_reshape(self, tokens):
        """What a stream has seen whose pipeline takes its other shape."""
        stream = self.begin(tokens)
        at, old = len(stream.times), self.generation()
        shape = SHAPES[self.shape]
        went_s = time.monotonic()
        client.call("127.0.0.1", self.admin, "POST", "/admin/layout", {"layout": shape})
        self.shape = 1 - self.shape
        self.http.wait_for(lambda: stream.closed or self.generation() > old, WAIT_S)
        after = len(stream.times) + AFTER
        self.http.wait_for(lambda: stream.closed or len(stream.times) >= after, WAIT_S)
        return self.end(stream, at, went_s)

    def one_upgrade(self, tokens):
        """What a stream has seen whose controller was replaced."""
        stream = self.begin(tokens)
        at, went_s = len(stream.times), time.monotonic()
        old, self.controller = self.controller, self.start_controller()
        self.wait(self.has_taken, "the successor has taken the requests")
        after = len(stream.times) + AFTER
        self.http.wait_for(lambda: stream.closed or len(stream.times) >= after, WAIT_S)
        seen = self.end(stream, at, went_s)
        old.wait(GRACE_S)
        return seen

    def has_taken(self):
        with open(os.path.join(self.work, "controller.log"), encoding="utf-8") as log:
            return "hand-over: taken" in log.read()

    def moved(self, stream, at, old):
        return len(stream.times) >= at + AFTER and self.workers[old].poll() is not None

    def context(self, tokens):
        """Medians of what end() says, over rounds."""
        seen = []
        if not self.workers:
            self.begin_workers()
        for _ in range(1 if self.way == "recompute" else self.args.rounds):
            if self.way in ("reshape", "upgrade"):
                seen.append(self.one_reshape(tokens) if self.way == "reshape" else self.one_upgrade(tokens))
            else:
                self.last, *gap = self.one_stream(tokens, self.last)
                seen.append(gap)
        return [statistics.median(values) for values in zip(*seen)]

    def begin_workers(self):
        if self.way == "reshape":
            self.shape = 1
            for _ in SHAPES:
                self.start_worker()
            self.wait(self.generation, "two workers serve together")
        else:
            self.last = self.add_worker()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--contexts", default="1024,8192")
    ap.add_argument("--ways", default=",".join(WAYS))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--threads", type=int, default=0)
    ap.add_argument("--pin", action="store_true", help="each worker's threads to cores, as on a machine of its own")
    ap.add_argument("--kv-tokens", type=int, default=20000)
    ap.add_argument("--settle-s", type=float, default=5.0, help="before a kill: what was sealed may reach the store")
    ap.add_argument("--gaps", action="store_true", help="also print each stream's gaps, a bar where its worker is told to go")
    ap.add_argument("--out")
    args = ap.parse_args()
    results = []
    for way in args.ways.split(","):
        with contextlib.ExitStack() as stack:
            bench = Bench(args, stack, way)
            for tokens in map(int, args.contexts.split(",")):
                gap, before, gap_slower, slower = bench.context(tokens)
                results.append({"way": way, "tokens": tokens, "added_ms": gap, "step_ms": before})
                say(f"{way}_{tokens}", gap, before)
                if way == "reshape":
                    say(f"{way}_{tokens}_slower", gap_slower, slower)
    if args.out:
        with open(args.out, "w") as f:
            json.dump(results, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
