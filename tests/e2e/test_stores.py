#!/usr/bin/env python3
"""KV pages in stores: workers are killed without notice, and requests go on from what Redis or other workers' memory has.

The reference of every stream is its undisturbed run, once for all tests. Whatever happens to the store (gone,
back, frozen, full, forged), streams stay identical; it costs recomputation alone. `--seed` replays the requests.
"""

import contextlib
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster, variant_of  # noqa: E402
from redis_server import RedisServer, installed  # noqa: E402
from tap import check  # noqa: E402

WORKERS = 3
REPLACE_S = 0.5
REQUESTS = 18
LONG, LONG_TOKENS = 6, 500  # these begin first, on all workers: half way each has text of its own that nobody else has
STREAMS = 12  # at a time
TOKENS = 300
SETTLE_S = 30.0
DRAIN_S = 180.0
STORED = 16  # blocks of one worker that are enough to see them come back
FULL_BYTES = 50 << 20
SIDE_BY_SIDE = 2  # tests: a cluster of one waits while that of another computes
SMALL_KV_TOKENS = 1600  # a third of what the streams have at a time


def cluster(args, *extra, workers=WORKERS):
    variant = variant_of(args.variant, "mixed")
    return Cluster(
        variant=variant, workers=workers, replace_after_s=REPLACE_S, extra=["--kv-restore", "fetch", *extra]
    )


def beats(up):
    return [w["heartbeat"] for w in up.admin("/admin/workers")["workers"] if w["state"] == "up"]


def total(up, field):
    return sum(b[field] for b in beats(up))


def serve_all(up, workers):
    """All workers are there, each with a pipeline that serves."""
    layout = up.admin("/admin/layout")
    ranks = sum(len(p["ranks"]) for p in layout["pipelines"] if p["state"] == "serving")
    return len(up.workers("up")) == workers and ranks == workers and not layout["plan"]["under_way"]


def kill(up, names):
    for name in names:
        with contextlib.suppress(KeyError, ProcessLookupError):
            up.kill(name, signal.SIGKILL)


def renew(up, workers=WORKERS):
    """New processes in the place of all workers: nothing is left in their pools."""
    old = up.workers()
    kill(up, old)
    up.wait(
        lambda: serve_all(up, workers) and not set(up.workers("up").values()) & set(old.values()),
        SETTLE_S,
        "new workers serve",
    )


class Context:
    """What all tests run, and how it comes undisturbed."""

    def __init__(self, args):
        self.args = args
        self.requests = workload.stories(LONG, args.seed, LONG_TOKENS) + workload.mixed(REQUESTS, args.seed, TOKENS)
        self.long = workload.stories(LONG, args.seed, workload.LONG_TOKENS)
        with cluster(args) as up:
            self.references = load.run_once(up.http, self.requests, STREAMS, DRAIN_S)
            self.long_references = load.run_once(up.http, self.long, LONG, DRAIN_S)


def covered(up):
    """What each worker sealed is stored (or found there), but for what a busy machine was late with."""
    stored = all(b["kv_stored"] >= 0.8 * b["kv_offered"] for b in beats(up))
    return stored and total(up, "kv_stored") > 0


def busy(up, work, ctx, part):
    count = part * sum(s.tokens() for s in ctx.references.values())
    up.wait(lambda: work.tokens() >= count, SETTLE_S, f"{count:.0f} tokens have been streamed")


def begin(up, ctx):
    return load.Load(up.http, ctx.requests, STREAMS).start(limit=len(ctx.requests))


def judge(work, references, what):
    verdict = work.judge(references)
    tap.note(f"{what}: {verdict.requests} streams, {verdict.tokens} tokens, longest gap {verdict.max_gap_s:.2f} s")
    check(verdict.good(), f"{what}: {verdict}")


def kv(up):
    tokens = up.admin("/admin/stats")["kv_tokens"]
    tap.note(f"KV that moved requests began with: {tokens}")
    return tokens


def lose_half_way(up, ctx, what, victims=1, middle=None):
    """Runs all requests once; some workers are killed half way. `middle` is called in between."""
    work = begin(up, ctx)
    busy(up, work, ctx, 0.1)
    if middle:
        middle()
    else:
        up.wait(lambda: total(up, "kv_stored") >= STREAMS, SETTLE_S, "pages are stored")
    busy(up, work, ctx, 0.3)
    busiest = sorted(up.requests_on().items(), key=lambda item: -item[1])
    kill(up, [name for name, _ in busiest[:victims]])
    work.finish(DRAIN_S)
    judge(work, ctx.references, what)


def stored_by(up):
    """{worker: blocks that it has stored} of those that have requests."""
    workers = up.admin("/admin/workers")["workers"]
    return {w["worker"]: w["heartbeat"]["kv_stored"] for w in workers if w["state"] == "up" and w["requests"]}


def lose_what_is_stored(up, ctx, what, victims=None):
    """Long streams in a circle; workers are killed that have all stored blocks of them: these, or the one that
    has stored the most."""
    work, found = load.Load(up.http, ctx.long, LONG).start(), []

    def there():
        stored = stored_by(up)
        found[:] = victims or sorted(stored, key=stored.get)[-1:]
        return found and all(stored.get(name, 0) >= STORED for name in found)

    up.wait(there, SETTLE_S, f"workers have stored {STORED} blocks each")
    kill(up, found)
    work.finish(DRAIN_S)
    judge(work, ctx.long_references, what)


# ---- Redis


def test_killed_workers_requests_go_on_from_redis(ctx):
    with RedisServer() as r, cluster(ctx.args, "--store", r.url) as up:
        lose_what_is_stored(up, ctx, "a worker killed")
        check(kv(up)["store"] > 0, "no KV came from the store")
        check(total(up, "kv_forged_pages") == 0, "pages that nobody forged")


def test_a_whole_pipeline_of_ranks_is_lost_and_others_go_on(ctx):
    with RedisServer() as r, cluster(ctx.args, "--store", r.url, "--layout", "2xtp2", workers=4) as up:
        pipelines = [p for p in up.admin("/admin/layout")["pipelines"] if p["state"] == "serving"]
        ranks = [rank["worker"] for rank in pipelines[0]["ranks"]]
        lose_what_is_stored(up, ctx, "both ranks of a pipeline killed", ranks)
        check(kv(up)["store"] > 0, "no KV came from the store")


def test_new_prompts_begin_with_what_others_have_stored(ctx):
    with RedisServer() as r, cluster(ctx.args, "--store", r.url) as up:
        story = " ".join(["The bird flew over the sea and looked at the waves."] * 30)
        body = {"model": "tattler-3m", "prompt": story, "max_tokens": 4, "temperature": 0}
        _, _, first = up.post("/v1/completions", body)
        up.wait(lambda: covered(up), SETTLE_S, "what is sealed is stored")
        renew(up)
        check(total(up, "prefix_hit_tokens") == 0, "new workers know nothing")
        _, _, again = up.post("/v1/completions", body)
        check(again["choices"][0]["text"] == first["choices"][0]["text"], "the same answer")
        up.wait(lambda: total(up, "prefix_hit_tokens") >= 128, 5, "the prompt was not computed again")


def pages_read(redis):
    """How often somebody got pages from it."""
    stats = re.search(rb"cmdstat_hmget:calls=(\d+)", redis.call("INFO", "commandstats"))
    return int(stats.group(1)) if stats else 0


def test_preempted_requests_come_back_from_the_store(ctx):
    """New prompts are too short to be looked for there, so whoever reads ran before."""
    requests = workload.stories(STREAMS, ctx.args.seed, TOKENS)
    with RedisServer() as r:
        with cluster(ctx.args, workers=1) as up:
            refs = load.run_once(up.http, requests, STREAMS, DRAIN_S)
        with cluster(ctx.args, "--store", r.url, "--kv-tokens", str(SMALL_KV_TOKENS), workers=1) as up:
            work = load.Load(up.http, requests, STREAMS).start(limit=len(requests))
            work.finish(DRAIN_S)
            judge(work, refs, f"KV for {SMALL_KV_TOKENS} tokens")
            check(total(up, "preemptions") > 0, "nobody was preempted")
            check(pages_read(r) > 0, "nobody came back from the store")


def test_redis_that_is_killed_and_comes_back_costs_coverage_alone(ctx):
    with RedisServer() as r, cluster(ctx.args, "--store", r.url) as up:
        lose_half_way(up, ctx, "Redis killed, then a worker", middle=r.kill)
        r.start()
        renew(up)
        lose_half_way(up, ctx, "Redis is back, a worker killed")
        check(r.pages(), "Redis that came back is used again")


def test_redis_that_is_frozen_costs_coverage_alone(ctx):
    with RedisServer() as r, cluster(ctx.args, "--store", r.url) as up:
        began = time.monotonic()
        lose_half_way(up, ctx, "Redis frozen, then a worker killed", middle=r.pause)
        tap.note(f"it took {time.monotonic() - began:.1f} s")
        r.go_on()
        r.call("FLUSHALL")
        renew(up)
        lose_half_way(up, ctx, "Redis goes on, a worker killed")
        up.wait(r.pages, SETTLE_S, "Redis that goes on is used again")


def run_full(ctx, policy, ttl):
    """All but a little of the memory is taken by others."""
    with RedisServer("--maxmemory", str(FULL_BYTES), "--maxmemory-policy", policy) as r:
        filler = b"x" * (256 << 10)
        with contextlib.suppress(RuntimeError):
            for i in range(2 * FULL_BYTES // len(filler)):
                r.call("SET", f"filler:{i}", filler, *(["EX", "3600"] if ttl else []))
        with cluster(ctx.args, "--store", r.url) as up:
            lose_half_way(up, ctx, f"Redis full under {policy}", middle=lambda: None)
            stored = total(up, "kv_stored")
            tap.note(f"{stored} blocks were stored")
            return stored, total(up, "kv_offered")


def test_full_redis_under_noeviction_refuses_and_nobody_waits(ctx):
    stored, offered = run_full(ctx, "noeviction", False)
    check(offered > 0 and stored < offered, f"{stored} of {offered} stored in a Redis that is full")


def test_full_redis_under_volatile_ttl_makes_room(ctx):
    stored, _ = run_full(ctx, "volatile-ttl", True)
    check(stored > 0, "nothing was stored")


def test_two_redis_share_the_pages_and_one_goes(ctx):
    with RedisServer() as a, RedisServer() as b, cluster(ctx.args, "--store", f"{a.url},{b.url}") as up:

        def lose_one():
            up.wait(lambda: a.pages() and b.pages(), SETTLE_S, "both servers have pages")
            a.kill()

        lose_half_way(up, ctx, "one Redis of two killed, then a worker", middle=lose_one)
        check(b.pages(), "the other one goes on")
        kv(up)


def test_forged_pages_are_recomputed_and_counted(ctx):
    """Somebody without the cluster key writes into Redis: a bit of every page."""
    with RedisServer() as r, cluster(ctx.args, "--store", r.url) as up:
        begin(up, ctx).finish(DRAIN_S)
        up.wait(lambda: covered(up), SETTLE_S, "what is sealed is stored")
        for key, field in r.pages():
            page = bytearray(r.call("HGET", key, field))
            page[len(page) // 2] ^= 1
            r.call("HSET", key, field, bytes(page))
        renew(up)
        work = begin(up, ctx)
        work.finish(DRAIN_S)
        judge(work, ctx.references, "every page forged")
        check(total(up, "kv_forged_pages") > 0, "forged pages were not counted")


# ---- peer memory


def test_killed_workers_requests_go_on_from_others_memory(ctx):
    with cluster(ctx.args) as up:
        lose_what_is_stored(up, ctx, "a worker killed")
        check(kv(up)["store"] > 0, "no KV came from others' memory")


def test_workers_and_their_buddies_are_killed_at_once(ctx):
    with cluster(ctx.args, workers=4) as up:
        lose_half_way(up, ctx, "two workers of four killed at once", victims=2)
        kv(up)


# ---- the tool


def test_up_runs_a_redis_of_its_own(ctx):
    with cluster(ctx.args, "--redis") as up:
        pid = up.state()["redis_pid"]
        check(pid > 0, "a Redis runs")
        os.kill(pid, signal.SIGKILL)
        up.wait(lambda: up.state()["redis_pid"] not in (0, pid), SETTLE_S, "it runs again")
        lose_half_way(up, ctx, "a worker killed")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=7, help="of the requests")


@contextlib.contextmanager
def setup(args):
    tap.note(f"seed {args.seed}")
    if not installed():
        raise tap.Skip("no redis-server is installed")
    yield Context(args)


if __name__ == "__main__":
    sys.exit(
        tap.main(
            __doc__,
            [
                test_killed_workers_requests_go_on_from_redis,
                test_a_whole_pipeline_of_ranks_is_lost_and_others_go_on,
                test_new_prompts_begin_with_what_others_have_stored,
                test_preempted_requests_come_back_from_the_store,
                test_redis_that_is_killed_and_comes_back_costs_coverage_alone,
                test_redis_that_is_frozen_costs_coverage_alone,
                test_full_redis_under_noeviction_refuses_and_nobody_waits,
                test_full_redis_under_volatile_ttl_makes_room,
                test_two_redis_share_the_pages_and_one_goes,
                test_forged_pages_are_recomputed_and_counted,
                test_killed_workers_requests_go_on_from_others_memory,
                test_workers_and_their_buddies_are_killed_at_once,
                test_up_runs_a_redis_of_its_own,
            ],
            arguments,
            setup,
            SIDE_BY_SIDE,
        )
    )
