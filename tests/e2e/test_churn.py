#!/usr/bin/env python3
"""Churn: 200 concurrent streams over 4 workers, one of which is killed, reclaimed, frozen or restarted every second.

Every stream must be identical with its undisturbed run (content, token records, finish_reason, usage) and end by
finish_reason and [DONE]. Then the same for streams whose workers' links to the controller are cut, stalled and refused.
The requests are of every kind; the list goes round, so that the churn always meets 200 open streams. Their length is
fitted to the machine first. `--seed` (printed by every run) and `--tokens` replay a schedule and its requests.

200 streams run on sanitized controllers and release workers: sanitized kernels are a tenth as fast, and a worker that
lives for four seconds would never get its 50 prompts computed. The links' test is run once more, smaller, with
everything sanitized.
"""

import contextlib
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import churn  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster, variant_of  # noqa: E402
from proxy import Proxy  # noqa: E402
from tap import check  # noqa: E402

WORKERS = 4
REPLACE_S = 1.0
GRACE_S = 3  # notice by SIGTERM
REFERENCE_S = 8.0  # one undisturbed round of the requests should take about so long
MOST_TOKENS = 600
DRAIN_S = 180.0  # for what is open when the churn ends, on a slow machine


def cluster(args, variant, **kw):
    variant = variant_of(args.variant, variant)
    tap.note(f"build: {variant}")
    return Cluster(variant=variant, workers=WORKERS, replace_after_s=REPLACE_S, term_grace_s=GRACE_S, **kw)


def undisturbed(up, args, count, seed):
    """(requests, {index: undisturbed stream}); the requests are as long as lets one round take REFERENCE_S here."""
    load.note_replay(args)
    run = load.run_lasting(
        up.http, lambda n: workload.mixed(count, seed, n), count, REFERENCE_S, MOST_TOKENS, DRAIN_S, args.tokens
    )
    if moved(up):
        tap.note(f"{moved(up)} requests were moved although nothing was done to the workers")
    return run


def run_churn(up, requests, references, args, plan, hand):
    """The load under the plan; checks everything that a client sees. Returns the load."""
    concurrency = len(requests)
    work = load.Load(up.http, requests, concurrency).start()
    open_counts = []
    churn.carry_out(plan, hand, lambda: open_counts.append(sum(not s.closed for _, s in work.streams)))
    at_end = time.monotonic()
    work.finish(DRAIN_S)
    verdict = work.judge(references)
    tap.note(f"seed {args.seed}: {' · '.join(hand.done)}")
    tap.note(
        f"{verdict.requests} streams, {verdict.tokens} tokens, {min(open_counts)} to {max(open_counts)} open at once; "
        f"longest gap {verdict.max_gap_s:.2f} s; drained in {time.monotonic() - at_end:.1f} s"
    )
    check(min(open_counts[len(open_counts) // 20 :]) >= concurrency * 9 // 10, "the churn did not meet a full load")
    check(verdict.good(), f"{verdict}")
    return work


def check_quiet(up):
    """Nothing is left in controller and workers, all workers are there again, and all computed the same."""
    check(not any(e["kind"] == "diverged" for e in up.events.list), "a worker's tokens differed from the log")
    up.wait_workers(WORKERS, 60)
    up.wait(
        lambda: (s := up.admin("/admin/stats")) and s["running"] == 0 and s["queued"] == 0,
        10,
        "the controller holds no request",
    )


def moved(up):
    return sum(e["kind"] == "request_moved" for e in up.events.list)


def test_200_streams_survive_killed_reclaimed_and_frozen_workers(args):
    with cluster(args, "mixed") as up:
        requests, references = undisturbed(up, args, args.streams, args.seed)
        plan = churn.schedule(args.seed, args.seconds, churn.WORKER_ACTIONS, args.seconds // 2, "kill_all")
        before = set(up.workers().values())
        run_churn(up, requests, references, args, plan, churn.WorkerChurn(up))
        check_quiet(up)
        check(moved(up) >= args.seconds, f"only {moved(up)} requests were moved")
        check(not before & set(up.workers("up").values()), "a worker of the start has outlived the kill of all")


def churn_of_links(args, variant, streams, seconds, seed):
    with Proxy() as proxy, cluster(args, variant, worker_connect=proxy.endpoint, worker_port=proxy.target_port()) as up:
        requests, references = undisturbed(up, args, streams, seed)
        run_churn(up, requests, references, args, churn.schedule(seed, seconds, churn.LINK_ACTIONS), churn.LinkChurn(proxy))
        check_quiet(up)
        check(moved(up) > 0, "no request was moved")


def test_200_streams_survive_cut_and_healed_links(args):
    churn_of_links(args, "mixed", args.streams, args.seconds, args.seed + 2)


def test_sanitized_workers_survive_cut_and_healed_links(args):
    churn_of_links(args, "asan", args.link_streams, args.link_seconds, args.seed + 1)


def arguments(ap):
    ap.add_argument("--seed", type=int, default=1, help="of schedule and requests; 0 = by chance")
    load.add_tokens(ap)
    ap.add_argument("--streams", type=int, default=200)
    ap.add_argument("--seconds", type=int, default=30, help="of churn")
    ap.add_argument("--link-streams", type=int, default=60, help="of the sanitized run")
    ap.add_argument("--link-seconds", type=int, default=12)


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
                test_200_streams_survive_killed_reclaimed_and_frozen_workers,
                test_200_streams_survive_cut_and_healed_links,
                test_sanitized_workers_survive_cut_and_healed_links,
            ],
            arguments,
            setup,
        )
    )
