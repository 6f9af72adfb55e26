#!/usr/bin/env python3
"""Layouts that change while streams run: forced, planned, announced and not, fifty in a row, and storms.

The reference of every stream is its run on workers that each hold the whole model; whatever the layout was when its
tokens were made, and however often it changed, the stream must be identical. `--seed` (printed) and `--tokens` replay a
schedule and its requests.
"""

import contextlib
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster, variant_of  # noqa: E402
from tap import check, check_equal  # noqa: E402

WORKERS = 8
SHAPES = ["tp2", "tp3", "tp4", "tp8", "pp2", "pp3", "2xtp2", "3+3+2", "2xtp2pp2", "3+5/8", "2+2+4/5+3", "2xtp4", "replicas"]
TRANSITIONS = 50
REPLACE_S = 0.5
GRACE_S = 5
SETTLE_S = 30.0  # for a layout to serve, on a slow machine
DRAIN_S = 180.0
STREAMS = 40
SHAPE_STREAMS = 8  # for each shape
MOST_TOKENS = 400
REFERENCE_S = 5.0
SIDE_BY_SIDE = 2  # tests: a cluster of one waits while that of another computes


def cluster(args, workers=WORKERS, replace_after_s=REPLACE_S, **kw):
    variant = variant_of(args.variant, "mixed")
    tap.note(f"build: {variant}")
    return Cluster(variant=variant, workers=workers, replace_after_s=replace_after_s, term_grace_s=GRACE_S, **kw)


def undisturbed(up, args, count, seed):
    """(requests, {index: undisturbed stream}) on the layout that serves now; fitted to the machine."""
    load.note_replay(args)
    return load.run_lasting(
        up.http, lambda n: workload.mixed(count, seed, n), count, REFERENCE_S, MOST_TOKENS, DRAIN_S, args.tokens
    )


def layout(up):
    return up.admin("/admin/layout")


def force(up, shape):
    """Asks for a layout; returns its epoch."""
    return up.admin("/admin/layout", {"layout": shape})["epoch"]


def serves(up, epoch=0):
    """Does the last plan serve, all of it and nothing else?"""
    now = layout(up)
    states = [p["state"] for p in now["pipelines"]]
    return now["epoch"] >= epoch and states and all(s == "serving" for s in states) and not now["plan"]["under_way"]


def leaders(up):
    return [p["ranks"][0]["worker"] for p in layout(up)["pipelines"] if p["ranks"]]


def signal_worker(up, worker, sig):
    with contextlib.suppress(KeyError, ProcessLookupError):
        up.kill(worker, sig)


class Schedule:
    """Transitions by a seed: shapes that are forced, workers that are killed or reclaimed, a plan from the planner; each
    is waited for, or overtaken by the next one."""

    def __init__(self, up, seed):
        self.up, self.random, self.done = up, random.Random(seed), []

    def one(self):
        r = self.random
        action = r.choice(["force"] * 6 + ["auto", "kill", "term", "kill leader"])
        shape, pick, wait, pause = r.choice(SHAPES), r.random(), r.random() < 0.7, r.random() * 0.2
        self.done.append(shape if action == "force" else action)
        if action in ("force", "auto"):
            force(self.up, shape if action == "force" else "auto")
        else:
            names = leaders(self.up) if action == "kill leader" else sorted(self.up.workers("up"))
            if names:
                signal_worker(self.up, names[int(pick * len(names))], signal.SIGTERM if action == "term" else signal.SIGKILL)
        if wait:
            self.up.wait(lambda: serves(self.up), SETTLE_S, f"the layout serves after {self.done[-1]}")
        time.sleep(pause)


def judge(work, references, what):
    verdict = work.judge(references)
    tap.note(f"{what}: {verdict.requests} streams, {verdict.tokens} tokens, longest gap {verdict.max_gap_s:.2f} s")
    check(verdict.good(), f"{what}: {verdict}")
    return verdict


def check_quiet(up):
    check(not any(e["kind"] == "diverged" for e in up.events.list), "a worker's tokens differed from the log")
    up.wait(
        lambda: (s := up.admin("/admin/stats")) and s["running"] == 0 and s["queued"] == 0, 10, "no request is left"
    )


def test_fifty_transitions_in_a_row_under_load(args):
    with cluster(args, extra=["--layout", "replicas"]) as up:
        requests, references = undisturbed(up, args, STREAMS, args.seed)
        epoch = layout(up)["epoch"]
        work, schedule = load.Load(up.http, requests, STREAMS).start(), Schedule(up, args.seed)
        for _ in range(args.transitions):
            schedule.one()
        work.finish(DRAIN_S)
        tap.note(f"seed {args.seed}: {' · '.join(schedule.done)}")
        judge(work, references, "transitions")
        check_quiet(up)
        taken = layout(up)["epoch"] - epoch
        tap.note(f"{taken} plans were taken")
        check(taken >= args.transitions, f"only {taken} plans were taken")


def test_every_shape_gives_the_same_streams(args):
    """Each shape is served from its start to the streams' end, undisturbed."""
    with cluster(args, extra=["--layout", "replicas"]) as up:
        requests, references = undisturbed(up, args, SHAPE_STREAMS, args.seed + 1)
        for shape in SHAPES[:-1]:
            epoch = force(up, shape)
            up.wait(lambda: serves(up, epoch), SETTLE_S, f"{shape} serves")
            work = load.Load(up.http, requests, len(requests)).start(limit=len(requests))
            work.finish(DRAIN_S)
            verdict = work.judge(references)
            check(verdict.good(), f"{shape}: {verdict}")
        check_quiet(up)


def test_model_larger_than_a_worker_is_served_by_several(args):
    """Two of three workers can hold it: the loss of one is survived, with one left its work waits for capacity."""
    with cluster(args, workers=3, extra=["--layout", "replicas"]) as up:
        weights = layout(up)["weight_bytes"]
        requests, references = undisturbed(up, args, 12, args.seed + 2)
    limit = str(weights * 9 // 5)  # all weights and KV for one request of full length need 2.9 times the weights
    with cluster(args, workers=3, extra=["--layout", "auto", "--memory-limit", limit], replace_after_s=6.0) as up:
        up.wait(lambda: serves(up), SETTLE_S, "several workers serve what none can hold")
        check(len(layout(up)["pipelines"][0]["ranks"]) >= 2, "one worker holds more than its --memory-limit")
        work = load.Load(up.http, requests, len(requests)).start()
        time.sleep(0.5)
        up.kill(leaders(up)[0], signal.SIGKILL)
        up.wait(lambda: serves(up) and len(up.workers("up")) == 2, SETTLE_S, "the other two serve it")
        check_equal(len(layout(up)["pipelines"][0]["ranks"]), 2, "ranks that serve with two workers left")
        time.sleep(0.5)
        up.kill(sorted(up.workers("up"))[0], signal.SIGKILL)
        up.wait(
            lambda: (now := layout(up)) and not now["pipelines"] and now["plan"]["missing_bytes"] > 0,
            SETTLE_S,
            "one worker alone serves nothing, and it is said how much memory is missing",
        )
        up.wait(lambda: serves(up), SETTLE_S, "it is served again when a worker has come back")
        work.finish(DRAIN_S)
        judge(work, references, "a model over one worker's memory")
        check_quiet(up)


def storm(up, name, blow, work_seconds=1.0):
    """A blow, and then all is as it was: the last forced layout serves again."""
    blow()
    up.wait(lambda: len(up.workers("up")) == WORKERS and serves(up), SETTLE_S + 10, f"all is well after: {name}")
    time.sleep(work_seconds)


def test_storms(args):
    r = random.Random(args.seed + 3)
    with cluster(args, extra=["--layout", "replicas"]) as up:
        requests, references = undisturbed(up, args, STREAMS, args.seed + 3)
        up.wait(lambda: serves(up, force(up, "2xtp4")), SETTLE_S, "2xtp4 serves")
        work = load.Load(up.http, requests, STREAMS).start()
        time.sleep(0.5)

        def half():
            for worker in r.sample(sorted(up.workers("up")), WORKERS // 2):
                signal_worker(up, worker, signal.SIGKILL)
                time.sleep(0.2)

        def leader_in_cutover():
            for shape in ("tp3", "2xtp2", "pp3", "2xtp4"):
                force(up, shape)
                time.sleep(r.random() * 0.02)
                signal_worker(up, r.choice(leaders(up) or sorted(up.workers("up"))), signal.SIGKILL)

        def everything():
            for worker in sorted(up.workers()):
                signal_worker(up, worker, signal.SIGKILL)

        storm(up, "half of the fleet within a second", half)
        storm(up, "the leaders", lambda: [signal_worker(up, w, signal.SIGKILL) for w in leaders(up)])
        storm(up, "the leader during cutover", leader_in_cutover)
        storm(up, "everything at once", everything)
        work.finish(DRAIN_S)
        judge(work, references, "storms")
        check_quiet(up)


def arguments(ap):
    ap.add_argument("--seed", type=int, default=1, help="of schedule and requests; 0 = by chance")
    load.add_tokens(ap)
    ap.add_argument("--transitions", type=int, default=TRANSITIONS)


@contextlib.contextmanager
def setup(args):
    if args.seed == 0:
        args.seed = random.SystemRandom().randrange(1, 1 << 31)
    tap.note(f"seed {args.seed}")
    yield args


if __name__ == "__main__":
    sys.exit(
        tap.main(
            __doc__,
            [
                test_every_shape_gives_the_same_streams,
                test_fifty_transitions_in_a_row_under_load,
                test_model_larger_than_a_worker_is_served_by_several,
                test_storms,
            ],
            arguments,
            setup,
            SIDE_BY_SIDE,
        )
    )
