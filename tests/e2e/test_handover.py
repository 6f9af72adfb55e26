#!/usr/bin/env python3
"""Upgrades: a controller that is started takes the place of the one that runs, and clients notice nothing.

Open streams, and answers that are not streamed, go on over the connections that they have; those that opted in come back
to the new one; no connection is refused at any moment.
"""

import contextlib
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import compare  # noqa: E402
import control  # noqa: E402
import load  # noqa: E402
import resume  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import check, check_equal  # noqa: E402

STREAMS = 12
TOKENS = 240
STREAMS_S = 120.0
SOON_S = 30.0
UPGRADES = 2


class Knocker:
    """Asks for short answers one after another, on a connection each, and keeps what went wrong."""

    def __init__(self, ctx):
        self.ctx, self.asked, self.wrong, self._stop = ctx, 0, [], False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        path, body = self.ctx.requests[0]
        while not self._stop:
            try:
                status, _, answer = self.ctx.c.post(path, {**body, "stream": False, "stream_options": None, "max_tokens": 2})
                if status != 200:
                    self.wrong.append((status, answer))
            except OSError as e:
                self.wrong.append(repr(e))
            self.asked += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop = True
        self._thread.join(STREAMS_S)


class Whole(threading.Thread):
    """An answer that is not streamed, asked for in a thread of its own."""

    def __init__(self, ctx, index):
        super().__init__(daemon=True)
        self.ctx, self.index, self.answer = ctx, index, None

    def run(self):
        path, body = self.ctx.requests[self.index]
        self.answer = self.ctx.c.post(path, {**body, "stream": False, "stream_options": None}, timeout_s=STREAMS_S)


class Context:
    def __init__(self, c):
        self.c = c
        self.requests = workload.outlasting(STREAMS, 23, TOKENS)
        with self.http() as http:
            self.references = load.run_once(http, self.requests, STREAMS, STREAMS_S)

    def http(self):
        return client.Client("127.0.0.1", self.c.controllers["c0"].port)

    def upgrade(self):
        """Starts a new controller in the place of the running one; returns the process that it took it from."""
        old = self.c.controllers["c0"].process
        self.c.start_controller()
        return old


def text_of(answer):
    return [(c["index"], c.get("text") or c["message"]["content"], c["finish_reason"]) for c in answer["choices"]]


def test_open_answers_go_on_where_they_are(ctx):
    with ctx.http() as http, Knocker(ctx) as knocker:
        streams = {i: http.submit(client.Completion(*r)) for i, r in enumerate(ctx.requests)}
        wholes = [Whole(ctx, i) for i in range(4)]
        for w in wholes:
            w.start()
        olds = []
        for _ in range(UPGRADES):
            load.wait_progress(http, streams.values(), 8, STREAMS_S)
            olds.append(ctx.upgrade())
        check(not all(s.closed for s in streams.values()), "every stream had ended before the upgrades")
        http.wait(streams.values(), STREAMS_S)
        for w in wholes:
            w.join(STREAMS_S)
    verdict = compare.judge(ctx.references, streams)
    check(verdict.good(), f"{verdict}")
    for w in wholes:
        check(w.answer and w.answer[0] == 200, f"an answer that is not streamed: {w.answer}")
        want = [(i, c.text, c.finish) for i, c in sorted(ctx.references[w.index].choices.items())]
        check_equal(text_of(w.answer[2]), want, "an answer that is not streamed")
    check(knocker.asked > 0 and not knocker.wrong, f"{len(knocker.wrong)} of {knocker.asked}: {knocker.wrong[:2]}")
    check_equal([p.wait(SOON_S) for p in olds], [0] * UPGRADES, "exit status of the controllers that gave their place")


def test_streams_that_opted_in_come_back_to_the_new_one(ctx):
    with ctx.http() as http:
        streams = {i: http.submit(resume.Resumable(*r)) for i, r in enumerate(ctx.requests)}
        load.wait_progress(http, streams.values(), 10, STREAMS_S)
        old = ctx.upgrade()
        http.wait(streams.values(), SOON_S)
        open_ = [i for i, s in streams.items() if not s.ended]
        check(open_, "every stream had ended before the upgrade")
        for i in open_:
            streams[i] = http.submit(streams[i].again())
        http.wait([streams[i] for i in open_], STREAMS_S)
        verdict = compare.judge(ctx.references, streams)
        check(verdict.good(), f"{verdict}")
        check_equal(old.wait(SOON_S), 0, "exit status of the old one")


def long_stream_and_upgrade(ctx, http):
    """A stream that began at the old controller, whose tokens now come by way of the new one; and the old process."""
    path, body = ctx.requests[0]
    stream = http.submit(client.Completion(path, {**body, "max_tokens": 1500, "n": 8, "stop": None}))
    http.wait_for(lambda: stream.tokens() > 3, STREAMS_S)
    old = ctx.upgrade()
    ctx.c.wait(lambda: ctx.c.admin("/admin/stats")["running"] == 1, SOON_S, "the new one computes it")
    return stream, old


def test_client_that_leaves_the_old_one_cancels_at_the_new_one(ctx):
    with ctx.http() as http:
        stream, old = long_stream_and_upgrade(ctx, http)
        http.cancel(stream)
        ctx.c.wait(lambda: ctx.c.admin("/admin/stats")["running"] == 0, SOON_S, "the new one has forgotten it")
        check_equal(old.wait(SOON_S), 0, "exit status of the old one")


def test_old_one_that_is_killed_takes_its_requests_along(ctx):
    with ctx.http() as http:
        stream, old = long_stream_and_upgrade(ctx, http)
        old.send_signal(signal.SIGKILL)
        http.wait([stream], SOON_S)
        ctx.c.wait(lambda: ctx.c.admin("/admin/stats")["running"] == 0, SOON_S, "the new one has forgotten it")
        path, body = ctx.requests[0]
        check_equal(ctx.c.post(path, {**body, "max_tokens": 2})[0], 200, "status afterwards")


@contextlib.contextmanager
def setup(args):
    with control.Control(variant=args.variant) as c:
        c.extra += ["--handover", os.path.join(c.dir, "handover.sock")]
        c.start_controller()
        c.start_workers(2)
        c.wait_workers(2)
        yield Context(c)


TESTS = [
    test_open_answers_go_on_where_they_are,
    test_streams_that_opted_in_come_back_to_the_new_one,
    test_client_that_leaves_the_old_one_cancels_at_the_new_one,
    test_old_one_that_is_killed_takes_its_requests_along,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
