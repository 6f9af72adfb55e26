#!/usr/bin/env python3
"""Weights from other workers: newcomers and ranks of other layouts load what they lack from whoever has it, the streams are
the same, and a source that dies in the middle of it costs nothing but the disk's time.

Workers are told to prefer peers (--weights-from peers): a model as small as the tests' is faster packed than asked for.
"""

import contextlib
import glob
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import compare  # noqa: E402
import load  # noqa: E402
import netns  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import MARK, MODEL, Cluster, program, sanitizer_env  # noqa: E402
from tap import check, check_equal  # noqa: E402

STREAMS = 6
TOKENS = 64
STREAMS_S = 120.0
SETTLE_S = 60.0
REPLACE_S = 0.5


def cluster(how, workers=2, shape="replicas"):
    return Cluster(
        variant="asan",
        workers=workers,
        replace_after_s=REPLACE_S,
        term_grace_s=5,
        extra=["--weights-from", how, "--layout", shape],
    )


def weight_bytes(up):
    """{"disk": bytes, "peer": bytes} that workers have loaded, as /metrics says."""
    text = client.call(up.host, up.admin_port, "GET", "/metrics")[2]
    found = re.findall(r'^godwit:weight_bytes_total\{[^}]*from="(\w+)"\} ([\d.e+]+)', text, re.M)
    return {name: int(float(value)) for name, value in found}


def settled(up, workers):
    """Do so many workers serve, all of what is planned and nothing else?"""
    now = up.admin("/admin/layout")
    states = [p["state"] for p in now["pipelines"]]
    ranks = sum(len(p["ranks"]) for p in now["pipelines"])
    return states and all(s == "serving" for s in states) and ranks == workers and not now["plan"]["under_way"]


def settle(up, workers, what):
    up.wait_workers(workers, SETTLE_S)
    up.wait(lambda: settled(up, workers), SETTLE_S, what)


def said(up):
    """What workers said of where their weights came from: [(MB here, from peers, from disk)]"""
    pattern = r"weights: ([\d.]+) MB were here, ([\d.]+) MB from peers, ([\d.]+) MB from disk"
    logs = [name for name in os.listdir(up.dir) if name.endswith(".log")]
    lines = []
    for name in logs:
        with open(os.path.join(up.dir, name), errors="replace") as f:
            lines += [tuple(float(x) for x in found) for found in re.findall(pattern, f.read())]
    return lines


def run(up, requests):
    return load.run_once(up.http, requests, STREAMS, STREAMS_S)


def check_same(references, streams, what):
    verdict = compare.judge(references, streams)
    check(
        verdict.good(),
        f"{what}: lost={verdict.lost} errors={verdict.errors} identical={verdict.identical}/{verdict.requests}; "
        f"first: {verdict.first_trouble}",
    )


def force(up, shape, workers):
    up.admin("/admin/layout", {"layout": shape})
    settle(up, workers, f"{shape} serves")


def replace(up, worker):
    """kill -9, and the next one of that name comes up."""
    before = up.workers()
    up.kill(worker, signal.SIGKILL)
    up.wait(lambda: set(up.workers("up").values()) - set(before.values()), SETTLE_S, f"{worker} is replaced")


def test_newcomer_gets_all_its_weights_from_a_peer_and_serves_the_same(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with cluster("peers") as up:
        settle(up, 2, "both workers serve")
        before = weight_bytes(up)
        references = run(up, requests)
        replace(up, "w1")
        settle(up, 2, "the newcomer serves")
        up.wait(lambda: weight_bytes(up)["peer"] > before.get("peer", 0), SETTLE_S, "weights have come from a peer")
        after = weight_bytes(up)
        check_equal(after["disk"], before["disk"], "bytes from disk")
        check(any(peers > 0 and disk == 0 for _, peers, disk in said(up)), f"no worker said so: {said(up)}")
        # Whatever runs now runs on the newcomer alone.
        streams = {i: up.submit(path, body) for i, (path, body) in enumerate(requests)}
        up.kill("w0", signal.SIGKILL)
        up.http.wait(streams.values(), STREAMS_S)
        check_same(references, streams, "on weights from a peer")


def test_ranks_of_other_layouts_fetch_what_others_dropped_not(args):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with cluster("peers", workers=3, shape="tp3") as up:
        settle(up, 3, "tp3 serves")
        references = run(up, requests)
        before = weight_bytes(up)
        check_equal(before.get("peer", 0), 0, "bytes from peers while nobody had any")
        for shape in "pp3", "tp2", "tp3":
            force(up, shape, 2 if shape == "tp2" else 3)
            check_same(references, run(up, requests), shape)
        after = weight_bytes(up)
        tap.note(f"weights, bytes: {before} before, {after} after pp3, tp2, tp3")
        check(after["peer"] > 0, "no rank has got weights from another one")


class Killed:
    """A failpoint: the victim dies at the point, once, when it is armed."""

    def __init__(self, point, victim):
        self.dir = tempfile.mkdtemp(prefix="godwit-weights-")
        self.mark, self.armed = os.path.join(self.dir, "died"), os.path.join(self.dir, "armed")
        self.env = {
            "GODWIT_FAILPOINT": f"{victim} {point}",
            "GODWIT_FAILPOINT_MARK": self.mark,
            "GODWIT_FAILPOINT_FROM": self.armed,
        }

    def __enter__(self):
        os.environ.update(self.env)
        return self

    def arm(self):
        open(self.armed, "w").close()

    def died(self):
        return os.path.exists(self.mark)

    def __exit__(self, *exc):
        for name in self.env:
            del os.environ[name]
        for name in os.listdir(self.dir):
            os.unlink(os.path.join(self.dir, name))
        os.rmdir(self.dir)


def die_in_the_middle(args, point, victim):
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with Killed(point, victim) as killed, cluster("peers") as up:
        settle(up, 2, "both workers serve")
        references = run(up, requests)
        killed.arm()
        replace(up, "w1")
        up.wait(killed.died, SETTLE_S, f"{victim} has died at '{point}'")
        settle(up, 2, "two workers serve again")
        check_same(references, run(up, requests), f"after a death at '{point}'")


def test_source_killed_in_the_middle_is_replaced_by_the_disk(args):
    die_in_the_middle(args, "cell served", "w0")


def test_newcomer_killed_in_the_middle_costs_nobody_anything(args):
    die_in_the_middle(args, "cell came", "w1")


class Bridge:
    """Another host's loopback, whose ports lead to the same ports here: a worker there meets those here as if they were
    beside it, but for a byte that is wrong in all that comes from some of the ports."""

    WRONG_AT = 2_000_000  # of each connection: amid the weights

    def __init__(self, ports, wrong_ports):
        self.space, self.listeners, self.flipped = netns.Namespace(), [], 0
        with self.space.inside():
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            self.listeners = [(port, socket.create_server(("127.0.0.1", port))) for port in ports]
        for port, listener in self.listeners:
            threading.Thread(target=self._accept, args=(port, listener, port in wrong_ports), daemon=True).start()

    def _accept(self, port, listener, wrong):
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, wrong), daemon=True).start()

    def _pump(self, source, target, wrong):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                at = self.WRONG_AT - passed
                if wrong and 0 <= at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                    self.flipped += 1
                passed += len(data)
                target.sendall(data)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for _, listener in self.listeners:
            listener.close()
        os.close(self.space.fd)


def listening_ports(pid):
    """TCP ports that a process listens on."""
    inodes = set()
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(path)))
    with open(f"/proc/{pid}/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sorted(int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes)


@contextlib.contextmanager
def worker_beyond(up, bridge):
    """A worker on the bridge's other host; yields a function that returns what it has said."""
    with open(f"/proc/{up.workers()['w0']}/cmdline") as f:
        flags = f.read().split("\0")
    argv = [program("godwit-worker"), "--model", MODEL, "--controller", up.worker_endpoint, "--worker-id", "far"]
    argv += ["--instance-id", "i-far", "--cluster-key-file", flags[flags.index("--cluster-key-file") + 1]]
    argv += ["--threads", "1", "--weights-from", "peers"]
    log = os.path.join(up.dir, "far.log")
    env = {**os.environ, **sanitizer_env(up.dir), MARK: up.mark}
    with open(log, "wb") as out, bridge.space.inside():
        process = subprocess.Popen([*netns.DIE_WITH_PARENT, *argv], stdout=out, stderr=out, env=env)

    def text():
        with open(log, errors="replace") as f:
            return f.read()

    try:
        yield text
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_source_with_a_wrong_byte_on_the_way_is_left_for_the_disk(args):
    if why := netns.missing():
        raise tap.Skip(why)
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with cluster("peers", workers=1) as up:
        settle(up, 1, "w0 serves")
        references = run(up, requests)
        source = listening_ports(up.workers()["w0"])
        bridge = Bridge([int(up.worker_endpoint.rpartition(":")[2]), *source], source)
        with contextlib.closing(bridge), worker_beyond(up, bridge) as text:
            up.wait(lambda: "wrong checksum of a piece" in text(), SETTLE_S, "the wrong byte is found")
            up.wait(lambda: settled(up, 2), SETTLE_S, "the worker beyond serves")
            check(bridge.flipped > 0, "no byte was wrong")
            here, peers, disk = max(said(up), key=lambda line: line[1])
            tap.note(f"far: {here} MB were there, {peers} MB from a peer, {disk} MB from disk")
            check(peers > 0 and disk > 0, "not both: what came before the wrong byte, and the rest from disk")
            streams = {i: up.submit(path, body) for i, (path, body) in enumerate(requests)}
            up.kill("w0", signal.SIGKILL)
            up.http.wait(streams.values(), STREAMS_S)
            check_same(references, streams, "on weights that were wrong on the way")


def test_weights_from_disk_alone_when_told_so(args):
    with cluster("disk") as up:
        settle(up, 2, "both workers serve")
        replace(up, "w1")
        settle(up, 2, "the newcomer serves")
        check_equal(weight_bytes(up).get("peer", 0), 0, "bytes from peers")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=11, help="of the requests (default: %(default)s)")


TESTS = [
    test_newcomer_gets_all_its_weights_from_a_peer_and_serves_the_same,
    test_ranks_of_other_layouts_fetch_what_others_dropped_not,
    test_source_killed_in_the_middle_is_replaced_by_the_disk,
    test_newcomer_killed_in_the_middle_costs_nobody_anything,
    test_source_with_a_wrong_byte_on_the_way_is_left_for_the_disk,
    test_weights_from_disk_alone_when_told_so,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, arguments))
