#!/usr/bin/env python3
"""A storm: 64 of 80 instances are told over HTTP that they will go, one and then all the others at once. The controller is a real
one, the workers only shake hands and beat. At most three epochs follow, and those that stay serve. (A storm that lasts a second, and
who is known to be doomed when: tests/unit/test_layout_storm.c, in virtual time.)

Silence counts so late that a busy machine loses nobody: what is counted is what the notices do.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import control  # noqa: E402
import tap  # noqa: E402
from tap import check, check_equal, note  # noqa: E402

WORKERS, DOOMED, EPOCHS_MAX = 80, 64, 3
SOON_S = 90.0
CALM = ["--heartbeat-timeout-ms", "60000"]


@contextlib.contextmanager
def fleet(c):
    """The workers, while the block lasts."""
    argv = [cluster.program("tests/fake_fleet", c.variant), *c.fake_worker_flags(), "--workers", str(WORKERS)]
    with open(os.path.join(c.dir, "fleet.log"), "wb") as log:
        p = subprocess.Popen([*cluster.DIE_WITH_PARENT, *argv], stdin=subprocess.PIPE, stdout=log, stderr=log,
                             env={**os.environ, **cluster.sanitizer_env(c.dir)})  # fmt: skip
    try:
        yield
        check_equal(p.poll(), None, "the fleet's exit status")
    finally:
        p.stdin.close()
        status = p.wait(60)
    check_equal(status, 0, "the fleet's exit status")


def serving(layout):
    return [r["instance"] for p in layout["pipelines"] if p["state"] == "serving" for r in p["ranks"]]


def settled(c, count):
    layout = c.admin("/admin/layout")
    return len(serving(layout)) == count and not layout["plan"]["under_way"]


def tell_at_once(controller, instances):
    """A notice for each over a connection of its own; the controller sleeps until all are sent, however slow this is. Returns
    the statuses."""
    port = controller.admin_port
    controller.process.send_signal(signal.SIGSTOP)
    connections = [socket.create_connection(("127.0.0.1", port), 30) for _ in instances]
    for s, instance in zip(connections, instances):
        body = json.dumps({"instance": instance, "kind": "preempt", "deadline_s": 300})
        head = f"POST /admin/notice HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        s.sendall((head + body).encode())
    controller.process.send_signal(signal.SIGCONT)
    statuses = []
    for s in connections:
        with s, s.makefile("rb") as answer:
            statuses.append(int(answer.readline().split()[1]))
    return statuses


def test_storm_of_64_notices_is_three_epochs_at_most(args):
    with control.Control(variant=args.variant or "asan", journal="none", extra=CALM) as c:
        c.start_controller()
        with fleet(c):
            c.wait(lambda: settled(c, WORKERS), SOON_S, "all serve")
            before = c.admin("/admin/layout")
            doomed = [f"i{k}" for k in range(DOOMED)]
            told = tell_at_once(c.controllers["c0"], doomed[:1]) + tell_at_once(c.controllers["c0"], doomed[1:])
            check_equal(told, [202] * DOOMED, "answers to the notices")
            c.wait(lambda: settled(c, WORKERS - DOOMED), SOON_S, "those that stay serve alone")
            after = c.admin("/admin/layout")
            check_equal(sorted(serving(after)), sorted(f"i{k}" for k in range(DOOMED, WORKERS)), "instances that serve")
            epochs = after["epoch"] - before["epoch"]
            note(f"{epochs} epochs, {after['plan']['made'] - before['plan']['made']} plans")
            check(1 <= epochs <= EPOCHS_MAX, f"{epochs} epochs, at most {EPOCHS_MAX}")
            check_equal(c.admin("/admin/stats")["losses"], 0, "workers lost")


if __name__ == "__main__":
    sys.exit(tap.main(__doc__, [f for name, f in list(globals().items()) if name.startswith("test_")]))
