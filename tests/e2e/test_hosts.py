#!/usr/bin/env python3
"""Pipelines over several hosts: network namespaces with a controller on one and a worker on each of the others.

Ranks meet and exchange sums over TCP with TLS from host to host. Streams must be identical with those of one worker that
holds the whole model, when a host is cut off from everybody, and when two workers cannot reach each other for a while
though both reach the controller. Who listens to the network reads nothing. Needs root and iproute2; skips where they are
missing.
"""

import contextlib
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import load  # noqa: E402
import netns  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import MODEL, program  # noqa: E402
from tap import check, check_equal  # noqa: E402

WORKERS = 4
STREAMS, TOKENS = 8, 200
STEP_TIMEOUT_S = 1  # of a rank that says nothing: short, so that a partition is noticed while the test looks
SETTLE_S = 40.0
APART_S = 60.0  # a gather gives up after 20 s (worker/mesh.h), and the next plan forms
LIMIT = "12000000"  # bytes of a worker; weights and one long request need 19.3 MB
DRAIN_S = 120.0
PORT, ADMIN_PORT, WORKER_PORT = 8000, 8001, 8002
INSECURE = "--insecure-plaintext"
# What each plane's frames begin with (migrate/wire.h, kernels/cpu/coll_frame.h, migrate/page_codec.h, store_peer_wire.h).
PLANES = {"control": b"GWF1", "sums of ranks": b"GWC1", "pages": b"GWK2", "stores": b"GWS1"}


class Hosts:
    """Host 0 has the controller, host i worker i - 1. The block's thread is on host 0."""

    def __init__(
        self, stack, workers=WORKERS, layout="replicas", worker_flags=(), step_timeout_s=STEP_TIMEOUT_S, cut=(),
        plaintext=False,
    ):  # fmt: skip
        self.initial = layout
        self.plaintext = [INSECURE] if plaintext else []
        self.worker_flags = ["--step-timeout-s", str(step_timeout_s), *worker_flags]
        self.dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="godwit-hosts-"))
        self.net = stack.enter_context(netns.create(workers + 1))
        self.key = os.path.join(self.dir, "key")
        with open(self.key, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write("a cluster key for the test of hosts")
        self.address = self.net.hosts[0].address
        self.workers = {}
        if cut:
            self.net.partition(*(self.net.hosts[host] for host in cut))
        self._run(0, "godwit-controller", self.controller_flags())
        for i in range(workers):
            self.start(i)
        stack.enter_context(self.net.hosts[0].inside())
        self._wait_until_it_listens()
        self.http = stack.enter_context(client.Client(self.address, PORT))

    def controller_flags(self):
        return [
            "--host", self.address, "--port", str(PORT), "--admin-listen", f"127.0.0.1:{ADMIN_PORT}",
            "--worker-listen", f"{self.address}:{WORKER_PORT}", "--layout", self.initial,
        ]  # fmt: skip

    def start(self, i, *flags):
        self.workers[i] = self._run(
            i + 1,
            "godwit-worker",
            [
                "--controller", f"{self.address}:{WORKER_PORT}", "--worker-id", f"w{i}", "--instance-id", f"i{i}",
                "--threads", "1", *self.worker_flags, *flags,
            ],
        )  # fmt: skip

    def _run(self, host, name, flags):
        argv = [program(name, "release"), "--model", MODEL, "--cluster-key-file", self.key, *self.plaintext, *flags]
        log = open(os.path.join(self.dir, f"{name}-{host}.log"), "ab")
        with log:
            return self.net.hosts[host].popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait_until_it_listens(self):
        def listens():
            with contextlib.suppress(OSError):
                return client.call("127.0.0.1", ADMIN_PORT, "GET", "/admin/layout")[0] == 200

        self.wait(listens, "the controller listens")

    def admin(self, path, body=None):
        status, _, answer = client.call("127.0.0.1", ADMIN_PORT, "GET" if body is None else "POST", path, body)
        check_equal(status, 200, f"status of {path}")
        return answer

    def layout(self):
        """The shapes that serve: [["w0", "w1"], …]; empty while something changes."""
        pipelines = self.admin("/admin/layout")["pipelines"]
        if any(p["state"] != "serving" for p in pipelines):
            return []
        return [[r["worker"] for r in p["ranks"]] for p in pipelines]

    def force(self, shape, ranks):
        self.admin("/admin/layout", {"layout": shape})
        self.wait(lambda: [len(p) for p in self.layout()] == ranks, f"{shape} serves")

    def wait(self, condition, what, settle_s=SETTLE_S):
        end = time.monotonic() + settle_s
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"after {settle_s:.0f} s it does not hold that {what}\n{self.tails()}")
            time.sleep(0.05)

    def log(self, name, host):
        with open(os.path.join(self.dir, f"{name}-{host}.log"), errors="replace") as f:
            return f.read()

    def tails(self):
        parts = []
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    parts.append(f"--- {name}\n{f.read()[-1500:]}")
        return "\n".join(parts)


def reference(hosts, seed):
    hosts.wait(lambda: len(hosts.layout()) == WORKERS, "each worker serves alone")
    requests = workload.mixed(STREAMS, seed, TOKENS)
    return requests, load.run_once(hosts.http, requests, STREAMS, DRAIN_S)


def expect_identical(hosts, work, references, what):
    work.finish(DRAIN_S)
    verdict = work.judge(references)
    tap.note(f"{what}: {verdict.requests} streams, {verdict.tokens} tokens, longest gap {verdict.max_gap_s:.2f} s")
    check(verdict.good(), f"{what}: {verdict.identical}/{verdict.requests} identical: {verdict.first_trouble}\n{hosts.tails()}")


def test_pipelines_over_hosts_give_the_same_streams(args):
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack)
        requests, references = reference(hosts, args.seed)
        for shape, ranks in (("tp4", [4]), ("3+3+2", [3]), ("pp3", [3]), ("2xtp2", [2, 2]), ("4+4/8", [3])):
            hosts.force(shape, ranks)
            work = load.Load(hosts.http, requests, STREAMS).start(limit=STREAMS)
            expect_identical(hosts, work, references, shape)


def test_host_that_vanishes_is_survived(args):
    """No packet of it arrives any more, no socket closes: only silence tells."""
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack)
        requests, references = reference(hosts, args.seed + 1)
        hosts.force("tp3", [3])
        work = load.Load(hosts.http, requests, STREAMS).start()
        time.sleep(1)
        lost = int(hosts.layout()[0][1][1:])
        for other in hosts.net.hosts:
            if other is not hosts.net.hosts[lost + 1]:
                hosts.net.partition(hosts.net.hosts[lost + 1], other)
        hosts.wait(lambda: (now := hosts.layout()) and f"w{lost}" not in now[0], "the others serve without it")
        time.sleep(0.5)
        hosts.net.heal()
        hosts.wait(lambda: f"w{lost}" in str(hosts.admin("/admin/workers")), "it is back")
        expect_identical(hosts, work, references, "a host that vanished")


def test_partition_between_two_workers_is_survived(args):
    """Both reach the controller, so both live; their pipeline breaks, and forms again when they reach each other."""
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack)
        requests, references = reference(hosts, args.seed + 2)
        hosts.workers[3].send_signal(signal.SIGKILL)
        hosts.workers[2].send_signal(signal.SIGKILL)
        hosts.force("tp2", [2])
        work = load.Load(hosts.http, requests, STREAMS).start()
        time.sleep(1)
        hosts.net.partition(hosts.net.hosts[1], hosts.net.hosts[2])
        hosts.wait(lambda: not hosts.layout(), "the pipeline is broken")
        time.sleep(2)
        check_equal(len(hosts.admin("/admin/workers")["workers"]), 2, "workers that the controller still has")
        hosts.net.heal()
        hosts.wait(lambda: [len(p) for p in hosts.layout()] == [2], "the two serve again")
        expect_identical(hosts, work, references, "a partition between two workers")


def test_workers_that_do_not_reach_each_other_are_planned_apart(args):
    """No worker can hold the model, any two can: two that never reach each other do not get it together."""
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack, 3, "auto", ["--memory-limit", LIMIT], step_timeout_s=60, cut=(1, 2))
        hosts.wait(hosts.layout, "one of the two serves with the third", APART_S)
        check_equal(len(hosts.layout()[0]), 2, "ranks")
        check("w2" in hosts.layout()[0], f"{hosts.layout()} serve, w0 and w1 must be apart")
        stream = client.Completion(*workload.mixed(1, args.seed + 3, TOKENS)[0])
        hosts.http.submit(stream)
        hosts.wait(lambda: stream.closed, "the stream has ended")
        check(stream.ended, f"the stream has not ended well\n{hosts.tails()}")


def overheard_of(args, plaintext):
    """What an eavesdropper finds while two hosts serve together and then apart: {what: in how many connections}."""
    prompt = random.Random(args.seed).sample(range(300, 1500), 48)
    known = {**PLANES, "prompt": struct.pack("<48I", *prompt)}
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack, 2, "tp2", plaintext=plaintext)
        flows = stack.enter_context(hosts.net.overheard())
        hosts.wait(lambda: [len(p) for p in hosts.layout()] == [2], "the two serve together")
        body = {"model": "tattler-3m", "prompt": prompt, "max_tokens": 4 * TOKENS, "ignore_eos": True, "stream": True, "logprobs": 1}
        work = load.Load(hosts.http, [(workload.TEXT, body)], 2).start()
        hosts.wait(lambda: any(s.tokens() for _, s in list(work.streams)), "tokens come")
        hosts.force("replicas", [1, 1])
        work.finish(DRAIN_S)
        check(all(s.ended for _, s in work.streams), f"a stream has not ended well\n{hosts.tails()}")
    total = sum(map(len, flows.values()))
    check(total > 100000, f"{total} bytes were overheard")
    return {what: sum(bytes(pattern) in flow for flow in flows.values()) for what, pattern in known.items()}


def test_eavesdropper_reads_nothing(args):
    """Neither a prompt nor a frame of any plane; without TLS the same ears hear all of them."""
    check_equal(overheard_of(args, plaintext=False), {what: 0 for what in (*PLANES, "prompt")}, "found under TLS")
    found = overheard_of(args, plaintext=True)
    check(all(found.values()), f"found in plaintext: {found}")


def test_plaintext_worker_is_refused_by_a_tls_controller(args):
    with contextlib.ExitStack() as stack:
        hosts = Hosts(stack, 1)
        hosts.wait(hosts.layout, "a worker with TLS serves")
        hosts.workers[0].send_signal(signal.SIGKILL)
        hosts.wait(lambda: not hosts.admin("/admin/workers")["workers"], "it is gone")
        hosts.start(0, INSECURE)
        lines = [
            ("godwit-controller", 0, "TLS: the other side does not hold the cluster key or speaks plaintext"),
            ("godwit-worker", 1, "it may speak TLS and this worker plaintext: --insecure-plaintext must be given"),
        ]
        for name, host, line in lines:
            hosts.wait(lambda name=name, host=host, line=line: line in hosts.log(name, host), f"{name} says: {line}")
        check_equal(hosts.admin("/admin/workers")["workers"], [], "workers")
        refused = re.search(r"^godwit:worker_dials_refused_total\{.*\} (\d+)", hosts.admin("/metrics"), re.M)
        check(refused and int(refused[1]) >= 1, "the dial was not counted")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=1, help="of the requests")


@contextlib.contextmanager
def setup(args):
    if netns.missing():
        raise tap.Skip(netns.missing())
    yield args


if __name__ == "__main__":
    sys.exit(
        tap.main(
            __doc__,
            [
                test_pipelines_over_hosts_give_the_same_streams,
                test_host_that_vanishes_is_survived,
                test_partition_between_two_workers_is_survived,
                test_workers_that_do_not_reach_each_other_are_planned_apart,
                test_eavesdropper_reads_nothing,
                test_plaintext_worker_is_refused_by_a_tls_controller,
            ],
            arguments,
            setup,
        )
    )
