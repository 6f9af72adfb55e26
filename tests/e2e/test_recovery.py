#!/usr/bin/env python3
"""Recovery: each fault alone, with what must happen and by when.

One cluster serves all tests but the last ones; every test leaves four workers up. Streams are compared with the
undisturbed run of the same requests.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import compare  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import Skip, check, check_equal  # noqa: E402

WORKERS = 4
STREAMS = 10
REFERENCE_S = 1.5  # one undisturbed round of the requests should take about so long
REPLACE_S = 1.0
GRACE_S = 5.0
FOUND_IDLE_S = 1.5  # a frozen worker is found within this on an idle machine
FOUND_BUSY_S = 6.0  # and within this on any
EVENT_S = 20.0
WHOLE_S = 60.0
STREAMS_S = 120.0
PREFILL_TRIES = 5


class Context:
    """The shared cluster and the requests with their undisturbed streams."""

    def __init__(self, up):
        self.up = up
        self.requests, self.references = load.run_lasting(
            up.http, lambda n: workload.stories(STREAMS, 3, n), STREAMS, REFERENCE_S, workload.LONG_TOKENS, STREAMS_S
        )

    def start(self, tokens_first=0):
        """The requests in a circle, so that some are under way whatever happens."""
        work = load.Load(self.up.http, self.requests, STREAMS).start()
        load.wait_progress(self.up.http, [stream for _, stream in work.streams], tokens_first, STREAMS_S)
        return work

    def finish(self, work):
        """Ends the circle; all streams must equal their references."""
        work.finish(STREAMS_S)
        self.judge(work.judge(self.references))

    def judge(self, verdict):
        check(verdict.good(), f"{verdict}")

    def mark(self):
        """Where the timeline stands; events_since(mark) are those behind it."""
        return len(self.up.events.list)

    def events_since(self, mark, kind):
        return [e for e in self.up.events.list[mark:] if e["kind"] == kind]

    def busiest(self):
        """The id of the worker that is up and has the most requests."""
        on = self.up.requests_on()
        return max(self.up.workers("up"), key=lambda w: on.get(w, 0))

    def stats(self):
        return self.up.admin("/admin/stats")

    def whole(self):
        """Waits until the fleet is: enough workers, alive, and the controller knows just them."""

        def agreed():
            up = self.up.workers("up")
            return len(up) >= WORKERS and all(map(cluster.alive, up.values())) and set(up) == set(self.up.requests_on())

        self.up.wait(agreed, WHOLE_S, "the fleet is whole again")

    def wait_lost(self, worker, mark):
        return self.up.wait_event(
            lambda e: e["kind"] in ("worker_lost", "worker_left") and e["worker"] == worker,
            EVENT_S,
            f"{worker} is found lost",
            mark,
        )


def test_kill_during_decode_moves_its_requests(ctx):
    work, mark = ctx.start(tokens_first=10), ctx.mark()
    victim = ctx.busiest()
    held = ctx.up.requests_on()[victim]
    check(held > 0, "no worker has requests")
    ctx.up.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    lost = ctx.wait_lost(victim, mark)
    check(lost["at_s"] - killed_s < FOUND_BUSY_S, f"the kill was found after {lost['at_s'] - killed_s:.1f} s")
    ctx.finish(work)
    moved = ctx.events_since(mark, "request_moved")
    check(moved and not any(e["announced"] for e in moved), f"moves: {moved}")
    ctx.whole()


def long_prompts(attempt):
    """Requests of about 600 prompt tokens, whose first words are new each time: no prefix cache has them."""
    story = " ".join(workload.ANSWERS) * 6
    return [
        (
            workload.CHAT,
            {
                "messages": [{"role": "user", "content": f"{attempt} and {i}: {story}"}],
                "max_tokens": 24,
                "temperature": 0.8,
                "seed": i,
                "logprobs": True,
                "ignore_eos": True,
            },
        )
        for i in range(WORKERS)
    ]


def test_kill_during_prefill_moves_its_requests(ctx):
    for attempt in range(PREFILL_TRIES):
        requests, mark = long_prompts(attempt), ctx.mark()
        streams = {i: ctx.up.submit(path, body) for i, (path, body) in enumerate(requests)}
        victim = ctx.up.wait(
            lambda: next((w for w, n in ctx.up.requests_on().items() if n), None), EVENT_S, "a request is on a worker"
        )
        ctx.up.kill(victim, signal.SIGKILL)
        ctx.up.http.wait(streams.values(), STREAMS_S)
        ctx.whole()
        undisturbed = {i: ctx.up.submit(path, body) for i, (path, body) in enumerate(requests)}
        ctx.up.http.wait(undisturbed.values(), STREAMS_S)
        ctx.judge(compare.judge(undisturbed, streams))
        if any(e["count"] == 0 for e in ctx.events_since(mark, "request_moved")):  # moved before its first token
            return
    raise Skip(f"prefill is too quick here to be hit in {PREFILL_TRIES} tries")


def note_found(who, found_s):
    load_now = os.getloadavg()[0]
    tap.note(f"{who} found after {found_s:.2f} s (aim {FOUND_IDLE_S} s on an idle machine, load here {load_now:.1f})")


def test_freeze_is_found_and_thaw_is_harmless(ctx):
    work, mark = ctx.start(tokens_first=10), ctx.mark()
    victim = ctx.busiest()
    frozen_s = time.monotonic()
    pid = ctx.up.kill(victim, signal.SIGSTOP)
    found_s = ctx.wait_lost(victim, mark)["at_s"] - frozen_s
    note_found("frozen worker", found_s)
    check(found_s < FOUND_BUSY_S, f"found after {found_s:.2f} s")
    ctx.up.wait(lambda: len(ctx.up.workers("up")) >= WORKERS, EVENT_S, "the frozen worker is replaced")
    check(cluster.alive(pid), "the frozen process was ended although it may thaw")
    os.kill(pid, signal.SIGCONT)
    ctx.finish(work)
    ctx.finish(ctx.start(tokens_first=10))
    ctx.up.wait(lambda: victim in ctx.up.workers("up"), EVENT_S, "the thawed worker is up again")
    mark = ctx.mark()
    os.kill(pid, signal.SIGKILL)
    ctx.wait_lost(victim, mark)
    ctx.whole()


def test_freeze_is_found_in_time_when_idle(ctx):
    victim, mark = ctx.busiest(), ctx.mark()
    frozen_s = time.monotonic()
    pid = ctx.up.kill(victim, signal.SIGSTOP)
    try:
        found_s = ctx.wait_lost(victim, mark)["at_s"] - frozen_s
    finally:
        os.kill(pid, signal.SIGKILL)
    note_found("idle frozen worker", found_s)
    check(found_s < FOUND_BUSY_S, f"found after {found_s:.2f} s")
    ctx.whole()


def test_notice_moves_requests_before_the_deadline(ctx):
    before = ctx.stats()
    work, mark = ctx.start(tokens_first=10), ctx.mark()
    victim = ctx.busiest()
    given_s, deadline_s = time.monotonic(), 10.0
    ctx.up.admin("/admin/notice", {"worker": victim, "kind": "preempt", "deadline_s": deadline_s})
    ctx.up.wait_event(
        lambda e: e["kind"] == "worker_doomed" and e["worker"] == victim, EVENT_S, "the notice is heard", mark
    )
    ctx.up.wait(lambda: ctx.up.requests_on().get(victim, 0) == 0, deadline_s, f"nothing is left on {victim}")
    check(time.monotonic() - given_s < deadline_s, "requests were moved after the deadline")
    moved = ctx.events_since(mark, "request_moved")
    check(moved and all(e["announced"] for e in moved), f"moves: {moved}")
    ctx.up.kill(victim, signal.SIGKILL)  # as the cloud does
    ctx.finish(work)
    ctx.whole()
    after = ctx.stats()
    check(after["announced_moves"] > before["announced_moves"], f"announced moves: {before} → {after}")
    check_equal(after["unannounced_moves"], before["unannounced_moves"], "unannounced moves")


def test_sigterm_is_a_notice(ctx):
    before = ctx.stats()
    work, mark = ctx.start(tokens_first=10), ctx.mark()
    victim = ctx.busiest()
    pid = ctx.up.kill(victim, signal.SIGTERM)
    ctx.up.wait_event(
        lambda e: e["kind"] == "worker_doomed" and e["worker"] == victim, EVENT_S, "the notice is heard", mark
    )
    ctx.up.wait(lambda: not cluster.alive(pid), GRACE_S + EVENT_S, "the reclaimed worker ends")
    ctx.finish(work)
    check_equal(ctx.stats()["unannounced_moves"], before["unannounced_moves"], "unannounced moves")
    check(ctx.stats()["announced_moves"] > before["announced_moves"], "no announced move")
    ctx.whole()


def test_cancelled_notice_brings_the_worker_back(ctx):
    victim, mark = sorted(ctx.up.workers("up"))[0], ctx.mark()
    ctx.up.admin("/admin/notice", {"worker": victim, "kind": "preempt", "deadline_s": 60})
    ctx.up.wait(lambda: victim in ctx.up.workers("doomed"), EVENT_S, f"{victim} is doomed")
    ctx.up.admin("/admin/notice", {"worker": victim, "kind": "cancel", "deadline_s": 0})
    ctx.up.wait_event(
        lambda e: e["kind"] == "notice_cancelled" and e["worker"] == victim, EVENT_S, "the cancel is heard", mark
    )
    ctx.up.wait(lambda: victim in ctx.up.workers("up"), EVENT_S, f"{victim} is up")
    ctx.up.wait_event(
        lambda e: e["kind"] == "pipeline_serving" and e["worker"] == victim, EVENT_S, "it has loaded and serves", mark
    )
    # New prompts: those that others have served go where their prefixes are cached.
    streams = [ctx.up.submit(*request) for request in long_prompts("after the cancel")]
    ctx.up.wait(lambda: ctx.up.requests_on().get(victim, 0) > 0, EVENT_S, f"{victim} gets work")
    ctx.up.http.wait(streams, STREAMS_S)
    check(not any(s.error for s in streams), f"errors: {[s.error for s in streams if s.error]}")


def test_all_workers_gone_requests_wait(ctx):
    work, mark = ctx.start(tokens_first=5), ctx.mark()
    for pid in ctx.up.workers().values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ctx.up.wait(lambda: ctx.up.get("/ready")[0] == 503, EVENT_S, "/ready says 503")
    check_equal(ctx.up.get("/health")[0], 200, "status of /health meanwhile")
    late = ctx.up.submit(*ctx.requests[0])
    ctx.up.wait(lambda: ctx.stats()["queued"] > 0, EVENT_S, "requests wait")
    ctx.up.wait(lambda: ctx.up.get("/ready")[0] == 200, 60, "/ready says 200")
    ctx.finish(work)
    ctx.up.http.wait([late], STREAMS_S)
    ctx.judge(compare.judge(ctx.references, {0: late}))
    check(len(ctx.events_since(mark, "request_moved")) > 0, "no request was moved")
    ctx.whole()


def test_disconnect_cancels_the_work(ctx):
    body = {**ctx.requests[0][1], "max_tokens": 1500}
    streams = [ctx.up.submit(workload.CHAT, {**body, "seed": i}) for i in range(STREAMS)]
    ctx.up.http.wait_for(lambda: all(s.tokens() > 0 or s.closed for s in streams), STREAMS_S)
    check(not any(s.closed for s in streams), f"a stream ended by itself: {[s.error for s in streams if s.closed]}")
    check_equal(ctx.stats()["running"], STREAMS, "requests in the controller")
    for s in streams:
        ctx.up.http.cancel(s)
    ctx.up.wait(lambda: ctx.stats()["running"] == 0, EVENT_S, "the controller has forgotten the requests")
    ctx.up.wait(lambda: not any(ctx.up.requests_on().values()), EVENT_S, "the workers have none")
    check(ctx.stats()["cancelled"] >= STREAMS, f"cancelled: {ctx.stats()['cancelled']}")
    ctx.finish(ctx.start())


def test_end_of_up_leaves_no_process(ctx):
    for sig in (signal.SIGTERM, signal.SIGINT):
        with cluster.Cluster(variant=ctx.up.variant, workers=2) as up:
            stream = up.submit(*ctx.requests[0])
            up.http.wait_for(lambda: stream.tokens() > 0 or stream.closed, STREAMS_S)
            up.kill(sorted(up.workers())[0], signal.SIGSTOP)
            up.process.send_signal(sig)
            try:
                up.process.wait(cluster.STOP_S)
            except subprocess.TimeoutExpired:
                check(False, f"`up` is still there {cluster.STOP_S:.0f} s after {sig.name}")
            check_equal(cluster.pids_with_mark(up.mark), [], f"processes left by {sig.name}")


@contextlib.contextmanager
def setup(args):
    with cluster.Cluster(variant=args.variant, workers=WORKERS, replace_after_s=REPLACE_S, term_grace_s=GRACE_S) as up:
        yield Context(up)


TESTS = [
    test_kill_during_decode_moves_its_requests,
    test_kill_during_prefill_moves_its_requests,
    test_freeze_is_found_and_thaw_is_harmless,
    test_freeze_is_found_in_time_when_idle,
    test_notice_moves_requests_before_the_deadline,
    test_sigterm_is_a_notice,
    test_cancelled_notice_brings_the_worker_back,
    test_all_workers_gone_requests_wait,
    test_disconnect_cancels_the_work,
    test_end_of_up_leaves_no_process,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
