#!/usr/bin/env python3
"""The demo: chat completions that stream on while their workers are reclaimed, killed and frozen.

Starts a controller and a simulated cloud of four spot instances, which are CPU workers with the shipped model. Runs a list of
chat requests in peace, which gives the reference; then again, while the cloud reclaims one instance with notice and takes one
without, each time the controller has another one come, while a worker is frozen and thawed, and while the
layout changes: all four as one pipeline (TP 4), three of them (TP 3), two pipelines of two (2 x TP 2). Every stream
is compared with the reference, token record by token record. On a terminal it shows texts and timeline live; elsewhere
it logs lines. All figures of the closing line are measured on the client's side.
"""

import argparse
import collections
import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import load  # noqa: E402
import screen  # noqa: E402
import workload  # noqa: E402

FRAME_S = 0.1
PANES = 4
PAUSE_S = 2.5  # from everything well to the next fault, so that a person can follow
FROZEN_S = 3.0  # longer than the controller waits for a heartbeat (1 s)
SETTLE_S = 30.0  # a fault whose worker is not replaced by then fails the demo
GRACE_S = 10  # notice of a reclaim
BOOT_S = 0.5  # of a new instance
TEXTS_LOGGED = 8
READABLE_TOKENS_S = 40.0  # of one stream
CONCURRENCY = (12, 96)  # streams at a time, at least and at most
PROBE_STREAMS, PROBE_TOKENS = 12, 40  # the run that measures the machine
MOVED_TOGETHER_S = 0.3

Fault = collections.namedtuple("Fault", "name route body done")
FAULTS = [
    Fault("reclaimed", "notices", {"kind": "preempt", "deadline_s": GRACE_S}, "the cloud's notice of %d s" % GRACE_S),
    Fault("killed", "kill", {}, "instance gone, no notice"),
    Fault("frozen", None, None, "SIGSTOP, thawed after %.0f s" % FROZEN_S),
]
LAYOUTS = [("tp4", "one pipeline of four workers"), ("tp3", "one of three"), ("2xtp2", "two of two")]
KINDS = {
    "worker_up": "good",
    "worker_left": "info",
    "worker_doomed": "warn",
    "worker_lost": "bad",
    "diverged": "bad",
    "worker_refused": "bad",
    "pipeline_serving": "good",
}
QUIET = {  # said by what follows from them
    "epoch", "pipeline_forming", "pipeline_warming", "pipeline_draining", "pipeline_dead", "request_origin"}


class Show:
    """What the person sees: a live screen on a terminal, lines elsewhere. The timeline is kept either way."""

    def __init__(self, out):
        self.out, self.live = out, screen.Screen(out) if out.isatty() else None
        self.start_s, self.timeline, self.title = time.monotonic(), [], "godwit demo"
        self._events_seen = self._texts_logged = 0
        self._panes = []
        self._moved, self._moved_s = 0, 0.0  # requests that moved together, not in the timeline yet; when the first did

    def __enter__(self):
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *exc):
        if self.live:
            self.live.__exit__(*exc)

    def say(self, text, kind="", at_s=None):
        """A line of the timeline."""
        self._flush_moved()
        self.timeline.append(((at_s or time.monotonic()) - self.start_s, kind, text))
        if not self.live:
            print(f"[{self.timeline[-1][0]:5.1f} s] {text}", file=self.out, flush=True)

    def hear(self, events):
        """Takes new events of the controller into the timeline."""
        for e in events[self._events_seen :]:
            if e["kind"] == "request_moved":
                self._moved, self._moved_s = self._moved + 1, self._moved_s or e["at_s"]
            elif e["kind"] == "pipeline_serving" and e["count"] > 1:
                self.say(f"{e['worker']} leads a pipeline of {e['count']} workers", "good", e["at_s"])
            elif e["kind"] not in QUIET and e["kind"] != "pipeline_serving":
                text = f"{e['worker']}: {e['kind'].replace('_', ' ')}"
                self.say(f"{text}: {e['text']}" if e.get("text") else text, KINDS.get(e["kind"], ""), e["at_s"])
        self._events_seen = len(events)
        if time.monotonic() - self._moved_s > MOVED_TOGETHER_S:
            self._flush_moved()

    def _flush_moved(self):
        """Requests that moved together make one line."""
        if self._moved:
            count, at_s, self._moved, self._moved_s = self._moved, self._moved_s, 0, 0.0
            self.say(f"{count} request{'s' if count > 1 else ''} moved to other workers", "info", at_s)

    def frame(self, work, up):
        """Draws the screen, or logs the texts that have ended."""
        streams = list(work.streams)
        if not self.live:
            self._log_texts(streams)
            return
        panes = [
            (f"{i + 1}: {self._prompt(s)}", s.choices[0].text if 0 in s.choices else "")
            for i, s in self._shown(streams)
        ]
        tint = {"up": "good", "doomed": "warn", "starting": "info"}
        workers = [(tint.get(w["state"], "bad"), f"{w['id']} {w['state']}") for w in up.state()["workers"]]
        done = sum(s.closed for _, s in streams)
        self.live.draw(
            self.title,
            panes,
            self.timeline,
            workers,
            f"{done} done, {len(streams) - done} open, {work.tokens()} tokens",
        )

    def _shown(self, streams):
        """The streams in the panes: one keeps its pane until it has ended and another one is there to take it."""
        waiting = [(i, s) for i, s in streams if not s.closed and all(s is not shown for _, shown in self._panes)]
        if not any(s is shown for _, s in streams for _, shown in self._panes[:1]):
            self._panes = []
        for k in range(PANES):
            if k == len(self._panes) and waiting:
                self._panes.append(waiting.pop(0))
            elif k < len(self._panes) and self._panes[k][1].closed and waiting:
                self._panes[k] = waiting.pop(0)
        return self._panes

    def _log_texts(self, streams):
        for i, s in streams[self._texts_logged : TEXTS_LOGGED]:
            if not s.closed:
                break
            self._texts_logged += 1
            first = s.choices[0].text.strip().split("\n")[0][:90] if 0 in s.choices else ""
            print(f"          stream {i + 1} ({s.tokens()} tokens): {first}", file=self.out, flush=True)

    @staticmethod
    def _prompt(stream):
        return stream.body["messages"][-1]["content"]


class Demo:
    """One cluster, the load on it, and what is done to it."""

    def __init__(self, args, show, up):
        self.args, self.show, self.up, self.work = args, show, up, None
        self.requests, self.concurrency = [], args.concurrency
        self.report = []  # (who, what happened, time, index of the first event)

    def tick(self):
        self.show.hear(self.up.events.list)
        self.show.frame(self.work, self.up)
        time.sleep(FRAME_S)

    def watch(self, condition, deadline_s, what):
        """Draws on until condition() holds; TimeoutError after deadline_s."""
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"after {deadline_s:.0f} s it does not hold that {what}")
            self.tick()

    def watch_for(self, seconds):
        end = time.monotonic() + seconds
        self.watch(lambda: time.monotonic() >= end, seconds + 60, "time passes")

    def drain(self):
        """Lets the open streams end, drawing on; no new ones."""
        self.work.stop()
        self.watch(self.work.ended, self.args.timeout, "all streams have ended")

    def fit(self):
        """Chooses how many streams are open at once: so many that a person can read along on a machine this fast."""
        fleet = self.args.workers
        self.up.wait(lambda: len(self.up.events.list) >= fleet, SETTLE_S, "the timeline shows the workers")
        self.show.hear(self.up.events.list)
        probe, start = workload.stories(PROBE_STREAMS, self.args.seed + 1, PROBE_TOKENS), time.monotonic()
        streams = load.run_once(self.up.http, probe, PROBE_STREAMS, self.args.timeout)
        rate = sum(s.tokens() for s in streams.values()) / (time.monotonic() - start)
        low, high = CONCURRENCY
        self.concurrency = self.concurrency or min(max(int(rate / READABLE_TOKENS_S), low), high)
        self.show.say(f"about {rate:.0f} tokens/s here: {self.concurrency} streams at a time")
        count = self.args.requests or max(2 * low, self.concurrency)
        self.requests = workload.stories(count, self.args.seed, self.args.tokens, ignore_eos=False)

    def run_undisturbed(self):
        """The reference: {index: stream}."""
        self.show.say(f"{len(self.requests)} chat requests without churn: the reference")
        self.work = load.Load(self.up.http, self.requests, self.concurrency).start(len(self.requests))
        self.watch(self.work.ended, self.args.timeout, "all streams have ended")
        bad = [s for _, s in self.work.streams if not s.whole()]
        if bad:
            raise RuntimeError(f"a stream failed without churn: {bad[0].error}")
        self.show.say(f"reference complete: {self.work.tokens()} tokens", "good")
        return dict(self.work.streams)

    def run_with_churn(self):
        self.show.title = "godwit demo: the same requests, while workers vanish and layouts change"
        self.show.say("the same requests again, with churn")
        self.work = load.Load(self.up.http, self.requests, self.concurrency).start()
        for fault in FAULTS:
            self.watch_for(PAUSE_S)
            self.strike(fault)
        for name, words in LAYOUTS:
            self.watch_for(PAUSE_S)
            self.change_layout(name, words)
        self.watch_for(PAUSE_S)
        self.drain()
        self.show.say("all streams have ended", "good")

    def strike(self, fault):
        """Does one fault to the worker with the most requests and waits until the fleet is whole again."""
        worker, requests = self.busiest()
        pid, first_event = self.up.workers()[worker], len(self.up.events.list)
        self.report.append((worker, f"{fault.name} ({fault.done})", time.monotonic(), first_event))
        self.show.say(f"{worker} (pid {pid}, {requests} requests) is {fault.name}: {fault.done}", "warn")
        if fault.route:
            self.up.cloud(f"/v1/instances/{worker}/{fault.route}", fault.body)
        else:
            self.freeze(worker, pid)
        self.watch_event(first_event, worker, {"worker_lost", "worker_left"})
        self.watch(lambda: self.whole(worker if fault.route else None), SETTLE_S, "the fleet is whole again")
        self.say_capacity()

    def freeze(self, worker, pid):
        os.kill(pid, signal.SIGSTOP)
        self.watch_for(FROZEN_S)
        os.kill(pid, signal.SIGCONT)
        self.show.say(f"{worker} is thawed", "info")

    def whole(self, gone):
        """Are as many workers up as there were, though one is gone for good?"""
        up = self.up.workers("up")
        return gone not in up and len(up) >= self.args.workers

    def say_capacity(self):
        def groups():
            now = self.up.admin("/admin/stats")["capacity"]
            return now["spot"], now["on_demand"]

        self.watch(lambda: all(sum(g[k] for g in groups()) == self.args.workers for k in ("live", "running")), SETTLE_S, "the fleet is right")
        spot, on_demand = groups()
        usd_h = spot["usd_h"] + on_demand["usd_h"]
        self.show.say(f"{spot['running']} spot instances, {on_demand['running']} on demand: {usd_h:.2f} USD/h")

    def change_layout(self, name, words):
        """Asks for a layout and waits until it serves, all of it and nothing else."""
        self.report.append(("all", f"layout {name}: {words}", time.monotonic(), len(self.up.events.list)))
        self.show.say(f"the layout becomes {name}: {words}", "warn")
        epoch = self.up.admin("/admin/layout", {"layout": name})["epoch"]

        def serves():
            now = self.up.admin("/admin/layout")
            return now["epoch"] >= epoch and all(p["state"] == "serving" for p in now["pipelines"])

        self.watch(serves, SETTLE_S, f"{name} serves")

    def watch_event(self, first, worker, kinds):
        """Draws on until the timeline has one of these events for the worker or its replacement."""

        def there():
            return any(e["kind"] in kinds and e["worker"].startswith(worker) for e in self.up.events.list[first:])

        self.watch(there, SETTLE_S, f"{worker}: {' or '.join(sorted(kinds))}")

    def busiest(self):
        """(id, requests) of the worker that is up and has the most requests: at least one."""
        found = []

        def look():
            on, up = self.up.requests_on(), self.up.workers("up")
            found[:] = sorted((on[w], w) for w in up if on.get(w))
            return found

        self.watch(look, SETTLE_S, "a worker has requests")
        return found[-1][1], found[-1][0]

    def table(self):
        """Per fault and change of layout: what happened, how many requests moved, where their KV came from, the longest gap."""
        lines = [
            f"{'':<54}{'requests':>10}   {'KV of these, in tokens':^31}{'longest':>11}",
            f"{'worker':<8}{'what happened':<46}{'moved':>10}{'copied':>12}{'from store':>12}{'computed':>10}{'gap':>11}",
        ]
        after = [(at_s - PAUSE_S / 2, first) for _, _, at_s, first in self.report[1:]] + [(float("inf"), None)]
        for (who, what, at_s, first), (until_s, last) in zip(self.report, after):
            moved = sum(e["kind"] == "request_moved" for e in self.up.events.list[first:last])
            gap = max((s.longest_gap_s(at_s, until_s) for _, s in self.work.streams), default=0.0)
            copied, stored, computed = self.kv_from(first, last)
            lines.append(
                f"{who:<8}{what:<46}{moved:>10}{copied:>12}{stored:>12}{computed:>10}{gap * 1000:>8.0f} ms"
            )
        return lines

    def kv_from(self, first, last):
        """Tokens of KV of the requests that went on elsewhere: copied from workers (ahead of the move or at it), fetched from
        the store, computed again."""
        found = [e for e in self.up.events.list[first:last] if e["kind"] == "request_origin"]
        total, stored = (sum(e["kv_tokens"][k] for e in found) for k in ("total", "store"))
        computed = sum(e["kv_tokens"]["recompute"] for e in found)
        return total - stored - computed, stored, computed


def closing_line(v):
    """The line that scripts look for; v is a compare.Verdict."""
    return (
        f"demo: {'PASS' if v.good() else 'FAIL'} requests={v.requests} tokens={v.tokens} lost={v.lost} "
        f"duplicated={v.duplicated} errors={v.errors} identical={v.identical}/{v.requests} "
        f"max_gap_ms={v.max_gap_s * 1000:.0f}"
    )


def run(args):
    """The whole demo; returns (verdict, lines of the table, timeline)."""
    with Show(sys.stdout) as show:
        show.say(f"starting a controller and a cloud of {args.workers} spot instances")
        godwit = os.path.abspath(os.path.join(args.build, "godwit"))
        with cluster.Cluster(
            variant="release",
            workers=args.workers,
            model=args.model,
            term_grace_s=GRACE_S,
            replace_after_s=BOOT_S,
            godwit=godwit,
            # a layout that says how many instances there shall be; the model is so small that computing would often be as fast
            extra=["--cloud", "sim", "--cloud-port", "0", "--layout", f"{args.workers}x8", "--kv-restore", "fetch"],
        ) as up:
            show.say(f"serving at http://{up.host}:{up.port}/v1", "good")
            demo = Demo(args, show, up)
            demo.fit()
            reference = demo.run_undisturbed()
            demo.run_with_churn()
            return demo.work.judge(reference), demo.table(), show.timeline


def parse():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default=os.path.join(cluster.ROOT, "build"), help="directory of the programs")
    ap.add_argument("--model", default=cluster.MODEL, help="model directory")
    ap.add_argument("--workers", type=int, default=4)
    ap.add_argument("--requests", type=int, default=0, help="length of the list of requests (0: fitted)")
    ap.add_argument("--concurrency", type=int, default=0, help="streams open at any time (0: fitted)")
    ap.add_argument("--tokens", type=int, default=400, help="max_tokens of a request")
    ap.add_argument("--seed", type=int, default=7, help="of prompts and sampling")
    ap.add_argument("--timeout", type=float, default=120, help="seconds that one run of the requests may take")
    return ap.parse_args()


def main():
    args = parse()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda number, _: sys.exit(128 + number))
    try:
        verdict, table, timeline = run(args)
    except KeyboardInterrupt:
        print("demo: FAIL interrupted")
        return 130
    except Exception as e:
        print(f"demo: FAIL {e}")
        return 1
    if sys.stdout.isatty():
        print("\n".join(f"[{t:5.1f} s] {text}" for t, _, text in timeline))
    print()
    print("\n".join(table))
    if verdict.first_trouble:
        print(f"first trouble: {verdict.first_trouble}")
    print(closing_line(verdict))
    return 0 if verdict.good() else 1


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
