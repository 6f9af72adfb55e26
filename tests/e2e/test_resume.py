#!/usr/bin/env python3
"""Streams that clients come back to: over broken connections, and over controllers that are killed and started again.

Each stream, over all its connections, must equal the undisturbed run of its request: every token, logprob, finish_reason
and the usage once, nothing twice.
"""

import os
import signal
import sys
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
from tap import check, check_equal  # noqa: E402

STREAMS = 14  # of every kind that workload.mixed has: n = 2, stops, logprobs, both endpoints; and a long one
TOKENS = 240
STREAMS_S = 120.0
SOON_S = 20.0
KILLS = 3
GRACE_S = 0.5  # shorter than any machine takes for what is given up
STILL_S = 0.3  # some batches of the journal
KEYS = "alice:key-a\nbob:key-b\n"


class Run:
    """Streams in flight, each on its latest connection, and how they come back."""

    def __init__(self, http, requests, headers=()):
        self.http = http
        self.latest = {i: resume.Resumable(*r, headers=headers) for i, r in enumerate(requests)}
        for s in self.latest.values():
            http.submit(s)

    def wait_tokens(self, count):
        load.wait_progress(self.http, self.latest.values(), count, STREAMS_S)

    def break_all(self):
        """The clients' connections break."""
        for s in self.latest.values():
            self.http.cancel(s)
        self.wait_closed()

    def wait_closed(self, deadline_s=STREAMS_S):
        self.http.wait_for(lambda: all(s.closed for s in self.latest.values()), deadline_s)

    def come_back(self, http=None):
        """Those that have not ended go on, at another controller perhaps; returns how many these were."""
        self.http = http or self.http
        open_ = [i for i, s in self.latest.items() if not s.ended]
        for i in open_:
            self.latest[i] = self.latest[i].again()
            self.http.submit(self.latest[i])
        return len(open_)

    def finish(self, references):
        self.wait_closed()
        verdict = compare.judge(references, self.latest)
        check(verdict.good(), f"{verdict}")


class Context:
    def __init__(self, c, variant):
        self.c, self.variant = c, variant
        self.requests = workload.outlasting(STREAMS, 11, TOKENS)
        with self.http() as http:
            self.references = load.run_once(http, self.requests, STREAMS, STREAMS_S)

    def http(self, name="c0"):
        return client.Client("127.0.0.1", self.c.controllers[name].port)

    def settle(self):
        """Until nothing runs and the journal is still: ends are written behind the rest (a batch every 50 ms), and the successor of
        a controller that is killed before ends such a stream again."""

        def still():
            batches = self.c.metric("godwit:journal_batches_total")
            time.sleep(STILL_S)
            return self.c.metric("godwit:journal_batches_total") == batches

        self.c.wait(lambda: self.requests_there() == 0, SOON_S, "all requests have ended")
        self.c.wait(still, SOON_S, "the journal is still")

    def requests_there(self):
        stats = self.c.admin("/admin/stats")
        return stats["queued"] + stats["running"]

    def restart(self, sig=signal.SIGKILL, extra=()):
        self.c.kill_controller(sig=sig)
        self.c.start_controller(extra=extra)


def test_broken_connections_go_on(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests)
        for tokens in (3, 1, 20):
            run.wait_tokens(tokens)
            run.break_all()
            check(run.come_back() > 0, "every stream had ended before it broke")
        run.finish(ctx.references)


def test_killed_controller_streams_go_on(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests)
        for kill in range(KILLS):
            run.wait_tokens(12)
            ctx.restart()
            run.wait_closed(SOON_S)
            check(run.come_back() > 0, f"every stream had ended before kill {kill}")
        run.finish(ctx.references)
    check(ctx.c.metric("godwit:streams_restored_total") > 0, "no stream was taken from the journal")
    check(ctx.c.metric("godwit:streams_resumed_total") > 0, "no stream was come back to")
    check_equal(ctx.c.metric("godwit:journal_failures_total"), 0, "batches that are not durable")
    check(ctx.c.said("RESYNC: "), "no worker said what it had run")
    check(ctx.c.admin("/admin/stats")["kv_tokens"]["cache"] > 0, "no stream came back to its pages")


def test_killed_before_the_first_token_goes_on(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests)
        http.wait_for(lambda: all(s.status == 200 for s in run.latest.values()), SOON_S)
        ctx.restart()
        run.wait_closed(SOON_S)
        run.come_back()
        run.finish(ctx.references)


def test_terminated_controller_streams_go_on(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests)
        run.wait_tokens(12)
        ctx.restart(signal.SIGTERM)
        run.wait_closed(SOON_S)
        check(run.come_back() > 0, "every stream had ended before")
        run.finish(ctx.references)


def test_killed_after_the_end_can_be_read_again(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests)
        run.finish(ctx.references)
        ctx.restart()
        again = {i: resume.Resumable(f"/v1/streams/{s.stream_id()}", s.asked) for i, s in run.latest.items()}
        for s in again.values():
            s.body = None
            http.submit(s)
        http.wait(again.values(), STREAMS_S)
        verdict = compare.judge(ctx.references, again)
        check(verdict.good(), f"read again, not the same: {verdict.first_trouble}")


def test_without_opting_in_work_ends_with_the_controller(ctx):
    ctx.settle()
    with ctx.http() as http:
        streams = {i: http.submit(client.Completion(*r)) for i, r in enumerate(ctx.requests)}
        load.wait_progress(http, streams.values(), 5, STREAMS_S)
        ctx.restart()
        http.wait(streams.values(), SOON_S)
        check(any(s.error for s in streams.values()), "no stream was hit")
        check_equal(ctx.requests_there(), 0, "requests that nobody can get the answer of")
        again = load.run_once(http, ctx.requests, STREAMS, STREAMS_S)
        verdict = compare.judge(ctx.references, again)
        check(verdict.good(), f"sent again, not the same: {verdict.first_trouble}")


def test_grace_ends_what_nobody_comes_back_to(ctx):
    ctx.settle()
    ctx.c.wait_workers(2)
    ctx.restart(extra=["--resume-grace", str(GRACE_S)])
    ctx.c.wait_workers(2)
    path, body = ctx.requests[0]
    with ctx.http() as http:
        run = Run(http, [(path, {**body, "max_tokens": 1500, "n": 8, "stop": None})])
        run.wait_tokens(3)
        run.break_all()
        broken_s = time.monotonic()
        check_equal(ctx.c.admin("/admin/stats")["running"], 1, "requests that live on without their client")
        ctx.c.wait(lambda: ctx.c.admin("/admin/stats")["running"] == 0, SOON_S, "the work ends")
        check(time.monotonic() - broken_s > GRACE_S * 0.8, "it ended before the grace had")
        status, _, answer = ctx.c.get(f"/v1/streams/{run.latest[0].stream_id()}")
        check_equal(status, 404, f"status afterwards ({answer})")
    ctx.settle()
    ctx.restart()  # and the journal has nothing of it
    check_equal(ctx.requests_there(), 0, "requests after the restart")


def test_two_readers_the_last_one_wins(ctx):
    with ctx.http() as http:
        run = Run(http, ctx.requests[:1])
        run.wait_tokens(4)
        first = run.latest[0]
        second = resume.Resumable(f"/v1/streams/{first.stream_id()}", first.asked)
        second.body = None
        http.submit(second)
        http.wait([first, second], STREAMS_S)
        check(not first.ended, "both readers got the whole stream")
        verdict = compare.judge({0: ctx.references[0]}, {0: second})
        check(verdict.good(), verdict.first_trouble)


def test_bad_requests_are_told(ctx):
    path, body = ctx.requests[0]
    for headers, change, status in (
        ({"Godwit-Resume": "maybe"}, {}, 400),
        ({"Godwit-Resume": "1"}, {"stream": False, "stream_options": None}, 400),
        ({"Godwit-Resume": "0"}, {"max_tokens": 2}, 200),
    ):
        got, _, answer = ctx.c.post(path, {**body, **change}, headers=headers)
        check_equal(got, status, f"status for {headers} ({answer})")
    check_equal(ctx.c.get("/v1/streams/chatcmpl-0")[0], 404, "status of an unknown stream")
    with ctx.http() as http:
        run = Run(http, ctx.requests[:1])
        run.wait_tokens(1)
        where = f"/v1/streams/{run.latest[0].stream_id()}"
        for bad in ("x", "1,2,3", "-1", "99999999", "1e1", "1 "):
            got = ctx.c.get(where, headers={"Last-Event-ID": bad})[0]
            # a blank at the end is no part of a header's value
            check_equal(got, 200 if bad == "1 " else 400, f"status for Last-Event-ID {bad!r}")


def test_keys_keep_streams_apart(ctx):
    keys = os.path.join(ctx.c.dir, "keys")
    with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write(KEYS)
    ctx.restart(extra=["--api-keys", keys])
    alice, bob = ({"Authorization": f"Bearer key-{k}"} for k in "ab")
    with ctx.http() as http:
        run = Run(http, ctx.requests[:2], headers=alice)
        run.wait_tokens(4)
        ctx.restart(extra=["--api-keys", keys])
        run.wait_closed(SOON_S)
        where = f"/v1/streams/{run.latest[0].stream_id()}"
        check_equal(ctx.c.get(where)[0], 401, "status without a key")
        check_equal(ctx.c.get(where, headers=bob)[0], 404, "status with another tenant's key")
        run.come_back()
        run.wait_closed()
        check(all(s.whole() for s in run.latest.values()), [s.error for s in run.latest.values()])


def test_up_starts_a_killed_controller_again(ctx):
    with cluster.Cluster(variant="mixed" if ctx.variant == "mixed" else ctx.variant, workers=2) as up:
        run = Run(up.http, ctx.requests)
        run.wait_tokens(10)
        before = up.state()["controller_pid"]
        os.kill(before, signal.SIGKILL)
        run.wait_closed(SOON_S)
        up.wait(lambda: up.state()["controller_pid"] not in (0, before), SOON_S, "there is a new controller")
        up.wait(lambda: answers(up), SOON_S, "it answers")
        check(run.come_back() > 0, "every stream had ended before")
        run.finish(ctx.references)


def answers(up):
    try:
        return up.get("/health")[0] == 200
    except OSError:
        return False


def setup(args):
    return Setup(args)


class Setup:
    def __init__(self, args):
        self.c = control.Control(variant=args.variant)

    def __enter__(self):
        self.c.__enter__()
        try:
            self.c.start_controller()
            self.c.start_workers(2)
            self.c.wait_workers(2)
            return Context(self.c, self.c.variant)
        except BaseException:
            self.c.__exit__(*sys.exc_info())
            raise

    def __exit__(self, *exc):
        return self.c.__exit__(*exc)


TESTS = [
    test_broken_connections_go_on,
    test_killed_controller_streams_go_on,
    test_killed_before_the_first_token_goes_on,
    test_terminated_controller_streams_go_on,
    test_killed_after_the_end_can_be_read_again,
    test_without_opting_in_work_ends_with_the_controller,
    test_grace_ends_what_nobody_comes_back_to,
    test_two_readers_the_last_one_wins,
    test_bad_requests_are_told,
    test_keys_keep_streams_apart,
    test_up_starts_a_killed_controller_again,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
