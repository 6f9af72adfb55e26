#!/usr/bin/env python3
"""Standbys: a second controller takes over, over a directory and over Redis, from one that was killed, ended or frozen.

Streams go on at the standby, token for token as in the undisturbed run, and whoever comes back from being frozen is not
listened to any more.
"""

import contextlib
import os
import signal
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import cluster  # noqa: E402
import compare  # noqa: E402
import control  # noqa: E402
import load  # noqa: E402
import resume  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import Skip, check, check_equal  # noqa: E402

STREAMS = 8
TOKENS = 400
STREAMS_S = 120.0
SOON_S = 30.0
LEASE_S = 2
PAIR = ("a", "b")


@contextlib.contextmanager
def redis_server(directory):
    """A redis-server of the test's own on a unix socket; yields (url, process)."""
    if not shutil.which("redis-server"):
        raise Skip("no redis-server is installed")
    path = os.path.join(directory, "redis.sock")
    argv = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory]
    process = subprocess.Popen([*cluster.DIE_WITH_PARENT, *argv], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SOON_S
        while not os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.02)
        yield f"redis://{path}", process
    finally:
        process.kill()
        process.wait()


class Pair:
    """Two controllers, the second standing by, two workers that know both, and streams at the first."""

    def __init__(self, args, journal):
        self.c = control.Control(variant=args.variant, journal=journal, extra=["--lease", str(LEASE_S)])
        self.requests = workload.outlasting(STREAMS, 5, TOKENS)

    def __enter__(self):
        self.c.__enter__()
        try:
            self.c.start_controller("a")
            self.c.start_controller("b", extra=["--standby"], wait=False)
            self.c.start_workers(2, PAIR)
            self.c.wait_workers(2, "a")
            with self.http("a") as http:
                self.references = load.run_once(http, self.requests, STREAMS, STREAMS_S)
        except BaseException:
            self.c.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        return self.c.__exit__(*exc)

    def http(self, name):
        return client.Client("127.0.0.1", self.c.controllers[name].port)

    def start(self, http):
        streams = {i: http.submit(resume.Resumable(*r)) for i, r in enumerate(self.requests)}
        load.wait_progress(http, streams.values(), 10, STREAMS_S)
        return streams

    def finish_at(self, name, streams):
        """Those that have not ended go on there; all must equal their references."""
        open_ = [i for i, s in streams.items() if not s.ended]
        check(open_, "every stream had ended before")
        with self.http(name) as http:
            for i in open_:
                streams[i] = http.submit(streams[i].again())
            http.wait([streams[i] for i in open_], STREAMS_S)
            verdict = compare.judge(self.references, streams)
            check(verdict.good(), f"{verdict}")

    def taken_over(self, name, since_s):
        self.c.wait_serving(name)
        tap.note(f"{name} serves {time.monotonic() - since_s:.1f} s later")


def test_directory_standby_takes_over_from_a_killed_one(args):
    with Pair(args, "file") as p, p.http("a") as http:
        streams = p.start(http)
        p.c.kill_controller("a")
        killed_s = time.monotonic()
        http.wait(streams.values(), SOON_S)
        p.taken_over("b", killed_s)
        p.finish_at("b", streams)


def test_redis_standby_takes_over_from_a_killed_one(args):
    with tempfile.TemporaryDirectory() as d, redis_server(d) as (url, _), Pair(args, url) as p, p.http("a") as http:
        streams = p.start(http)
        p.c.kill_controller("a")
        killed_s = time.monotonic()
        http.wait(streams.values(), SOON_S)
        p.taken_over("b", killed_s)
        p.finish_at("b", streams)


def test_redis_standby_takes_over_from_one_that_ends(args):
    with tempfile.TemporaryDirectory() as d, redis_server(d) as (url, _), Pair(args, url) as p, p.http("a") as http:
        streams = p.start(http)
        p.c.kill_controller("a", signal.SIGTERM)
        ended_s = time.monotonic()
        http.wait(streams.values(), SOON_S)
        p.taken_over("b", ended_s)
        p.finish_at("b", streams)


def test_zombie_says_and_writes_nothing_any_more(args):
    with tempfile.TemporaryDirectory() as d, redis_server(d) as (url, _), Pair(args, url) as p, p.http("a") as http:
        streams = p.start(http)
        zombie = p.c.controllers["a"].process
        zombie.send_signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        p.taken_over("b", frozen_s)
        p.c.wait_workers(2, "b")
        for s in streams.values():  # its clients give up
            http.cancel(s)
        http.wait(streams.values(), SOON_S)
        zombie.send_signal(signal.SIGCONT)
        check_equal(zombie.wait(SOON_S), 1, "exit status of the zombie")
        p.finish_at("b", streams)
        stats = p.c.admin("/admin/stats", name="b")
        check_equal(stats["workers_up"], 2, "workers at the new controller")
        check_equal(stats["diverged"], 0, "workers whose tokens differed")


def test_redis_that_hangs_costs_durability_alone(args):
    with tempfile.TemporaryDirectory() as d, redis_server(d) as (url, redis), Pair(args, url) as p, p.http("a") as http:
        streams = p.start(http)
        redis.send_signal(signal.SIGSTOP)
        try:
            http.wait(streams.values(), STREAMS_S)
            verdict = compare.judge(p.references, streams)
            check(verdict.good(), verdict.first_trouble)
            path, body = p.requests[0]
            status, head, answer = p.c.post(path, body, "a", headers={"Godwit-Resume": "1"})
            check_equal((status, answer["error"]["code"]), (503, "not_durable"), "a stream that cannot be durable")
            check("retry-after" in head, "no Retry-After")
            check_equal(p.c.post(path, {**body, "max_tokens": 3}, "a")[0], 200, "one that need not be")
        finally:
            redis.send_signal(signal.SIGCONT)
        p.c.wait(
            lambda: p.c.post(path, {**body, "max_tokens": 3}, "a", headers={"Godwit-Resume": "1"})[0] == 200,
            SOON_S,
            "streams are durable again",
        )


def test_second_controller_that_does_not_stand_by_is_refused(args):
    with control.Control(variant=args.variant) as c:
        c.start_controller("a")
        c.start_controller("b", wait=False)
        check_equal(c.controllers["b"].process.wait(SOON_S), 1, "exit status")
        check("--standby waits" in c.tail(), "it does not say what to do")


@contextlib.contextmanager
def setup(args):
    yield args


TESTS = [
    test_directory_standby_takes_over_from_a_killed_one,
    test_redis_standby_takes_over_from_a_killed_one,
    test_redis_standby_takes_over_from_one_that_ends,
    test_zombie_says_and_writes_nothing_any_more,
    test_redis_that_hangs_costs_durability_alone,
    test_second_controller_that_does_not_stand_by_is_refused,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
