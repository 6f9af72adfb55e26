#!/usr/bin/env python3
"""Workers in two zones: what they exchange is counted by purpose and by whether it crosses zones, and priced.

Real bytes: workers of zone z-a and z-b on this machine, their zones by flag. What is asserted are bounds that hold on any machine.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import control  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import check, check_equal  # noqa: E402

SOON_S = 60.0
STREAMS, TOKENS = 4, 120
USD_GB = 20.0  # so that this test's few megabytes cost what can be read
SIDE_BY_SIDE = 2


def told(c):
    return c.admin("/admin/stats")["worker_bytes"]


def run(c, seed):
    with client.Client("127.0.0.1", c.controllers["c0"].port) as http:
        streams = load.run_once(http, workload.mixed(STREAMS, seed, TOKENS), STREAMS, SOON_S)
    check(all(s.whole() for s in streams.values()), "every stream ends as it should")


def start(c, layout, workers, worker_flags=()):
    c.start_controller(extra=["--layout", layout, "--egress-usd-gb", str(USD_GB)])
    for name, zone in workers:
        c.workers[name] = c.start_instance(name, extra=["--zone", zone, "--egress-usd-gb", str(USD_GB), *worker_flags])
    c.wait_workers(len(workers))


def test_pages_steps_and_stores_are_counted_by_zone_and_priced(args):
    with control.Control(variant=args.variant) as c:
        start(c, "2xtp2", [("i-1", "z-a"), ("i-2", "z-a"), ("i-3", "z-b"), ("i-4", "z-b")], ["--sums", "tcp"])
        run(c, 3)
        c.wait(lambda: told(c)["stores"]["other_zone"] > 0, SOON_S, "blocks are stored in the other zone")
        c.wait(lambda: told(c)["steps"]["same_zone"] > 0, SOON_S, "ranks of a zone have exchanged sums")
        check_equal(told(c)["steps"]["other_zone"], 0, "no stage spans zones: bytes of steps between them")
        far = sum(kind["other_zone"] for name, kind in told(c).items() if isinstance(kind, dict))
        usd = c.metric("godwit:egress_usd_total")
        check(usd >= far * 1e-9 * USD_GB * 0.999, f"{far} bytes cost {usd} USD")
        check(c.metric("godwit:egress_usd_per_hour") > 0, "what that is per hour")
        check_equal(c.metric("godwit:worker_bytes_total", labels='for="steps",zone="other"'), 0.0, "the metric of steps between zones")
        c.wait(lambda: c.metric("godwit:worker_bytes_total", labels='for="stores",zone="other"') > 0, SOON_S, "the metric of stores")


def test_checkpoints_stay_within_what_they_may_cost(args):
    """A cent an hour is 139 bytes a second: the first block that leaves the zone spends it for longer than the test lasts."""
    with control.Control(variant=args.variant) as c:
        start(c, "replicas", [("i-1", "z-a"), ("i-2", "z-a"), ("i-3", "z-b")], ["--checkpoint-max-usd-h", "0.01"])
        for seed in (3, 4):
            run(c, seed)
        c.wait(lambda: told(c)["stores"]["same_zone"] > 0, SOON_S, "blocks are stored within the zone")
        block = c.metric("godwit:checkpoint_bytes") / max(1.0, c.metric("godwit:checkpoint_blocks", labels='state="stored"'))
        far = told(c)["stores"]["other_zone"]
        check(far <= 3 * 2 * block, f"{far} bytes went to other zones: more than a block of {block:.0f} bytes and a half from each worker")


if __name__ == "__main__":
    tests = [f for name, f in list(globals().items()) if name.startswith("test_")]
    sys.exit(tap.main(__doc__, tests, side_by_side=SIDE_BY_SIDE))
