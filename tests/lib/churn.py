"""Churn by the clock: seeded schedules of what happens to workers or their links, and the hand that carries them out.

A schedule is a list of (seconds, action, pick, hold). It depends on the seed alone; `pick` in [0, 1) chooses among the
workers (or links) that are there when the time has come, `hold` how long a freeze or stall lasts. So a seed replays the
same blows, though not the same microseconds.
"""

import contextlib
import os
import random
import signal
import time

WORKER_ACTIONS = ["kill"] * 4 + ["term"] * 3 + ["stop"] * 3 + ["restart"] * 2
LINK_ACTIONS = ["cut"] * 4 + ["stall"] * 2 + ["refuse"] * 2 + ["cut_all"]
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "restart": signal.SIGINT}
STOP_S = (0.2, 2.5)  # frozen for so long: shorter and longer than what makes a worker lost
STALL_S = (0.2, 2.0)


def schedule(seed, seconds, actions, all_at=None, all_action=None):
    """One action a second, at a random moment of that second; at second `all_at` it is `all_action` instead."""
    r = random.Random(seed)
    plan = []
    for second in range(seconds):
        at_s, action, pick, hold = second + r.random() * 0.9, r.choice(actions), r.random(), r.random()
        plan.append((at_s, all_action if second == all_at else action, pick, hold))
    return plan


class WorkerChurn:
    """Signals to worker processes."""

    def __init__(self, cluster):
        self.cluster, self.done, self.thaws = cluster, [], []

    def act(self, action, pick, hold):
        """Carries out one action; does nothing (and says so) when no worker is alive."""
        live = sorted(self.cluster.workers("starting", "up", "doomed").items())
        if action == "kill_all":
            victims = sorted(self.cluster.workers().items())  # frozen ones, too: none may thaw later
        else:
            victims = [live[int(pick * len(live))]] if live else []
        self.done.append(f"{action} {','.join(w for w, _ in victims) or 'nobody'}")
        for _, pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if action == "stop" else SIGNALS.get(action, signal.SIGKILL))
        if action == "stop":
            self.thaws += [(time.monotonic() + STOP_S[0] + hold * (STOP_S[1] - STOP_S[0]), pid) for _, pid in victims]

    def tick(self, everything=False):
        """Thaws whoever is due (everyone, at the end)."""
        now = time.monotonic()
        for at_s, pid in self.thaws:
            if everything or at_s <= now:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.thaws = [] if everything else [t for t in self.thaws if t[0] > now]


class LinkChurn:
    """Cuts and stalls of the workers' links, in a proxy.Proxy."""

    def __init__(self, proxy):
        self.proxy, self.done, self.heal_at_s = proxy, [], None

    def act(self, action, pick, hold):
        links = self.proxy.links()
        victims = links if action == "cut_all" else [links[int(pick * len(links))]] if links else []
        self.done.append(f"{action} {len(victims)}")
        if action == "refuse":
            self.proxy.refuse(True)
        for link in victims:
            (self.proxy.stall if action == "stall" else self.proxy.cut)(link)
        if action in ("stall", "refuse"):
            self.heal_at_s = time.monotonic() + STALL_S[0] + hold * (STALL_S[1] - STALL_S[0])

    def tick(self, everything=False):
        if self.heal_at_s and (everything or self.heal_at_s <= time.monotonic()):
            self.proxy.heal()
            self.heal_at_s = None


def carry_out(plan, churn, every_tick=lambda: None):
    """Runs the plan against the clock, then undoes what it left frozen or stalled."""
    start = time.monotonic()
    for at_s, action, pick, hold in plan:
        while time.monotonic() < start + at_s:
            churn.tick()
            every_tick()
            time.sleep(0.02)
        churn.act(action, pick, hold)
    churn.tick(everything=True)
