"""A simulated cloud for the controller's `sim` provider: groups whose instances are real godwit-worker processes.

    with SimCloud(start, groups={"spot": 1, "on-demand": 0}) as c:   # start(instance id) → subprocess.Popen
        c.supply = 2                     # spot instances that there are at most
        c.fault(path="/desired", status=429, times=3)
        c.sizes                          # [(group, size)] that were asked for
        c.deleted                        # [(instance id, what ran there when it was asked for)]

Instances take BOOT_S to run, as real ones do, only faster. `look(instance id)`, if given, tells what runs on an instance at the
moment when somebody asks for its deletion.
"""

import contextlib
import json
import subprocess
import threading
import time

from fake_metadata import Answer, Fake

BOOT_S = 0.5
POLL_S = 0.1
USD_H = {"sim.spot": 0.25}


class Instance:
    def __init__(self, name, group):
        self.name, self.group, self.process, self.ready_s = name, group, None, time.monotonic() + BOOT_S
        self.ending = False

    @property
    def state(self):
        return "ending" if self.ending else "running" if self.process else "pending"


class SimCloud(Fake):
    def __init__(self, start, groups, look=None, most=8):
        super().__init__()
        self._start, self._look, self.most = start, look, most
        self.desired, self.sizes, self.deleted, self.wrong_sizes = dict(groups), [], [], []
        self.supply, self.instances, self._number = 99, [], 0
        self._follower = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self):
        super().__enter__()
        self._follower.start()
        return self

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self._follower.join()
        for i in self.instances:
            self._end(i)

    # ---- the cloud's side

    def of(self, group, *states):
        with self.lock:
            return [i for i in self.instances if i.group == group and (not states or i.state in states)]

    def _follow(self):
        while not self.stopping.wait(POLL_S):
            with self.lock:
                self.instances = [i for i in self.instances if not (i.process and i.process.poll() is not None)]
                for group, size in self.desired.items():
                    self._grow(group, size)
                due = [i for i in self.instances if not i.process and i.ready_s <= time.monotonic()]
            for i in due:
                i.process = self._start(i.name)

    def _grow(self, group, size):
        most = min(size, self.supply) if group == "spot" else size
        there = [i for i in self.instances if i.group == group and not i.ending]
        for _ in range(most - len(there)):
            self._number += 1
            self.instances.append(Instance(f"i-{group}-{self._number}", group))

    @staticmethod
    def _end(instance):
        if instance.process:
            with contextlib.suppress(ProcessLookupError):
                instance.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                instance.process.wait(10)

    def take(self, instance):
        """The cloud takes an instance away; its group makes another one while supply lasts."""
        with self.lock:
            found = next(i for i in self.instances if i.name == instance)
        self._end(found)

    # ---- its API

    def answer(self, method, path, query, headers, body):
        parts = path.strip("/").split("/")
        if (method, path) == ("GET", "/v1/prices"):
            prices = [{"type": t, "zone": "z-a", "usd_h": p} for t, p in USD_H.items()]
            raise Answer(200, json.dumps({"prices": prices}))
        if parts[:2] == ["v1", "groups"] and parts[2] in self.desired:
            self.answer_group(method, parts[2], parts[3:], body)
        if method == "DELETE" and parts[:2] == ["v1", "instances"]:
            self.answer_delete(parts[2])
        raise Answer(404, json.dumps({"error": {"code": 404, "message": f"no {path}"}}))

    def answer_group(self, method, group, rest, body):
        if (method, rest) == ("POST", ["desired"]):
            size = json.loads(body)["desired"]
            with self.lock:
                self.sizes.append((group, size))
                self.desired[group] = size
            raise Answer(200, "{}")
        if (method, rest) == ("GET", []):
            raise Answer(200, json.dumps({
                "min": 0, "max": self.most, "desired": self.desired[group],
                "instances": [
                    {"id": i.name, "type": f"sim.{group}", "zone": "z-a", "state": i.state, "spot": group == "spot"}
                    for i in self.of(group)
                ],
            }))  # fmt: skip

    def answer_delete(self, name):
        with self.lock:
            found = [i for i in self.instances if i.name == name and not i.ending]
        if not found:
            raise Answer(404, json.dumps({"error": {"code": 404, "message": f"no instance {name}"}}))
        self.deleted.append((name, self._look(name) if self._look else None))
        with self.lock:
            found[0].ending = True
            self.desired[found[0].group] -= 1
        self._end(found[0])
        raise Answer(200, "{}")


if __name__ == "__main__":
    raise SystemExit("a library: see tests/e2e")
