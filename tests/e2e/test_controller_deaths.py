#!/usr/bin/env python3
"""Death of the controller at each named point of its journal's writing, of its start, and of a hand-over.

The controller is built with failpoints (base/failpoint.h) and dies once, when it reaches the point. A new one is started
then, the clients come back, and the streams must be those of the undisturbed run. A client that was not told its stream's
id before the death asks again: nothing was promised to it.
"""

import contextlib
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import compare  # noqa: E402
import control  # noqa: E402
import load  # noqa: E402
import resume  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import check  # noqa: E402

STREAMS = 6
TOKENS = 120
STREAMS_S = 120.0
SOON_S = 30.0

WRITING = ["batch sealed", "batch written", "batch durable"]
STARTING = ["segment begun", "segment written", "segment renamed", "journal opened", "streams restored"]


class Context:
    def __init__(self, c):
        self.c = c
        self.requests = workload.mixed(STREAMS, 31, TOKENS)
        self.mark = os.path.join(c.dir, "died")
        with self.http() as http:
            self.references = load.run_once(http, self.requests, STREAMS, STREAMS_S)

    def http(self):
        return client.Client("127.0.0.1", self.c.controllers["c0"].port)

    @contextlib.contextmanager
    def dies_at(self, point):
        """Controllers that are started in the block die at that point, the first to reach it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.mark)
        os.environ["GODWIT_FAILPOINT"] = f"controller {point}"
        os.environ["GODWIT_FAILPOINT_MARK"] = self.mark
        try:
            yield
        finally:
            del os.environ["GODWIT_FAILPOINT"], os.environ["GODWIT_FAILPOINT_MARK"]

    def wait_death(self, point):
        self.c.wait(lambda: os.path.exists(self.mark), SOON_S, f"the controller reaches '{point}'")
        self.c.controllers["c0"].process.wait(SOON_S)

    def start(self, http):
        return {i: http.submit(resume.Resumable(*r)) for i, r in enumerate(self.requests)}

    def finish(self, http, streams):
        http.wait(streams.values(), STREAMS_S)
        for i, s in streams.items():
            if not s.ended:
                streams[i] = http.submit(s.again() if s.stream_id() else resume.Resumable(*self.requests[i]))
        http.wait(streams.values(), STREAMS_S)
        verdict = compare.judge(self.references, streams)
        check(verdict.good(), f"{verdict}")


def death_while_writing(point):
    def test(ctx):
        with ctx.dies_at(point), ctx.http() as http:
            ctx.c.kill_controller()
            ctx.c.start_controller()
            streams = ctx.start(http)
            ctx.wait_death(point)
            ctx.c.start_controller()
            ctx.finish(http, streams)

    test.__name__ = "test_writing_dies_at_" + point.replace(" ", "_")
    return test


def death_while_starting(point):
    def test(ctx):
        with ctx.http() as http:
            streams = ctx.start(http)
            load.wait_progress(http, streams.values(), 8, STREAMS_S)
            ctx.c.kill_controller()
            with ctx.dies_at(point):
                ctx.c.start_controller(wait=False)
                ctx.wait_death(point)
            ctx.c.start_controller()
            ctx.finish(http, streams)

    test.__name__ = "test_start_dies_at_" + point.replace(" ", "_")
    return test


def test_hand_over_dies_half_given(ctx):
    handover = ["--handover", os.path.join(ctx.c.dir, "handover.sock")]
    with ctx.http() as http:
        with ctx.dies_at("place half given"):
            ctx.c.kill_controller()
            ctx.c.start_controller(extra=handover)
            old = ctx.c.controllers["c0"].process
            ctx.c.wait_workers(2)
            streams = ctx.start(http)
            load.wait_progress(http, streams.values(), 8, STREAMS_S)
            new = ctx.c.start_controller(extra=handover, wait=False).process
            check(old.wait(SOON_S) == -signal.SIGKILL, "the old one did not die")
        check(new.wait(SOON_S) == 1, "the new one went on without what it was to be given")
        ctx.c.start_controller(extra=handover)
        ctx.finish(http, streams)


@contextlib.contextmanager
def setup(args):
    with control.Control(variant=args.variant) as c:
        c.start_controller()
        c.start_workers(2)
        c.wait_workers(2)
        yield Context(c)


TESTS = [
    *(death_while_writing(p) for p in WRITING),
    *(death_while_starting(p) for p in STARTING),
    test_hand_over_dies_half_given,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
