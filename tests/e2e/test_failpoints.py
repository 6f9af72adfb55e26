#!/usr/bin/env python3
"""Death at each named point of a move: kill -9 of who gives, who takes, who forms a new pipeline, in the middle of it.

Workers are built with failpoints (base/failpoint.h): the one that is named dies when it reaches the point, once. Then
the same streams must come as without any fault, and the cluster must be whole again. Pages are fetched wherever there
is somebody to fetch them from (--kv-restore fetch), so that every point is reached.
"""

import contextlib
import os
import re
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster  # noqa: E402
from tap import check  # noqa: E402

WORKERS = 3
STREAMS = 9
TOKENS = 240
FIRST_TOKENS = 25  # per stream, before anything happens
TRIES = 5  # a worker that has no request when it is reclaimed comes to no point
REPLACE_S = 0.5
GRACE_S = 10
STREAMS_S = 120.0
REACHED_S = 30.0
SIDE_BY_SIDE = 2  # tests: a cluster of one waits while that of another computes

SOURCE = ["received CUTOVER", "sending HANDOFF", "page served"]
DESTINATION = ["received WARM", "pull begun", "pull over", "sending WARMED", "received SUBMIT", "sending ORIGIN"]
MEMBER = ["received ASSIGN", "sending READY", "received START"]


class Run:
    """A cluster one of whose workers dies at a point, streams that have begun, and their undisturbed run."""

    def __init__(self, seed, victim="", point=""):
        self.dir = tempfile.mkdtemp(prefix="godwit-failpoint-")
        self.mark = os.path.join(self.dir, "died")
        self.armed = os.path.join(self.dir, "armed")
        self.requests, self.work = workload.stories(STREAMS, seed, TOKENS), None
        self.up = Cluster(
            variant="asan",
            workers=WORKERS,
            replace_after_s=REPLACE_S,
            term_grace_s=GRACE_S,
            extra=["--kv-restore", "fetch"],
            env={
                "GODWIT_FAILPOINT": f"{victim} {point}",
                "GODWIT_FAILPOINT_MARK": self.mark,
                "GODWIT_FAILPOINT_FROM": self.armed,
            },
        )

    def __enter__(self):
        self.up.__enter__()
        return self

    def __exit__(self, *exc):
        try:
            self.up.__exit__(*exc)
        finally:
            for name in os.listdir(self.dir):
                os.unlink(os.path.join(self.dir, name))
            os.rmdir(self.dir)

    def start(self):
        """Streams in a circle, whose ends so fall apart, until some of each length are under way."""
        self.work = load.Load(self.up.http, self.requests, STREAMS).start()
        self.up.http.wait_for(lambda: self.work.tokens() >= STREAMS * FIRST_TOKENS, STREAMS_S)

    def arm(self):
        """No stream begins any more, and from here on the victim dies: what it did for their beginning is not what is tested."""
        self.work.stop()
        open(self.armed, "w").close()

    def disarm(self):
        os.unlink(self.armed)

    def reclaim(self, worker):
        return self.up.kill(worker, signal.SIGTERM)

    def died(self):
        return os.path.exists(self.mark)

    def finish(self, references):
        self.work.finish(STREAMS_S)
        verdict = self.work.judge(references)
        check(verdict.good(), f"{verdict}")
        self.up.wait(lambda: len(self.up.workers("up")) >= WORKERS, STREAMS_S, "as many workers as before are up")

    def moved_tokens(self):
        text = client.call(self.up.host, self.up.admin_port, "GET", "/metrics")[2]
        found = re.findall(r'^godwit:kv_tokens_total\{[^}]*from="(\w+)"\} (\d+)', text, re.M)
        return {name: int(value) for name, value in found}


def undisturbed(args):
    """Streams of a cluster where nobody dies, from before a worker is reclaimed; and where moved requests' KV came from."""
    with Run(args.seed) as run:
        references = load.run_once(run.up.http, run.requests, STREAMS, STREAMS_S)
        for _ in range(TRIES):
            run.start()
            over = reclaim_w0(run)
            run.finish(references)
            if run.moved_tokens().get("peer", 0) > 0:
                break
            run.up.wait(over, REACHED_S, "another process is in the place of w0")
        return references, run.moved_tokens()


def test_move_that_nothing_disturbs_brings_pages_along(ctx):
    tap.note(f"KV of moved requests, tokens: {ctx.tokens}")
    check(ctx.tokens.get("peer", 0) > 0, f"no page has come from the worker that was reclaimed: {ctx.tokens}")


def reclaim_w0(run):
    pid = run.reclaim("w0")
    return lambda: run.up.workers("up").get("w0", pid) != pid


def form_tp2(run):
    run.up.admin("/admin/layout", {"layout": "tp2"})
    return lambda: False


def death(victim, point, act):
    """The test that `victim` dies at that point of what `act` begins; act's answer says when that is over."""

    def test(ctx):
        with Run(ctx.args.seed, victim, point) as run:
            for _ in range(TRIES):
                run.start()
                run.arm()
                over = act(run)
                run.up.wait(lambda: run.died() or over(), REACHED_S, f"{victim} reaches '{point}'")
                run.finish(ctx.references)
                if run.died():
                    return
                run.disarm()
            check(False, f"{victim} did not reach '{point}' in {TRIES} tries")

    test.__name__ = f"test_{victim.replace(',', '_or_')}_dies_at_{point.replace(' ', '_').lower()}"
    return test


DEATHS = [(SOURCE, "w0", reclaim_w0), (DESTINATION, "w1,w2", reclaim_w0), (MEMBER, "w1", form_tp2)]


class Context:
    def __init__(self, args):
        self.args = args
        self.references, self.tokens = undisturbed(args)


def arguments(ap):
    ap.add_argument("--seed", type=int, default=1, help="of the requests")


@contextlib.contextmanager
def setup(args):
    tap.note(f"seed {args.seed}")
    yield Context(args)


if __name__ == "__main__":
    deaths = [death(victim, point, act) for points, victim, act in DEATHS for point in points]
    tests = [test_move_that_nothing_disturbs_brings_pages_along, *deaths]
    sys.exit(tap.main(__doc__, tests, arguments, setup, SIDE_BY_SIDE))
