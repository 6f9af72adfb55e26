"""A cluster of single processes, of which each may be killed and started again, the controller too.

    with Control(journal="file") as c:
        c.start_controller(); c.start_workers(2)
        c.kill_controller(); c.start_controller()

The end of the block is a test of its own, as that of cluster.Cluster is. Controllers have names: a standby is a second one.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

import client
import cluster
import tap

READY_S = 60.0


class Ports:
    """Ports that nobody else gets by chance while this lives: a server with SO_REUSEADDR, as ours are, may listen on them,
    also again, and also much later, as a standby does."""

    def __init__(self, count):
        self._sockets = [socket.socket() for _ in range(count)]
        for s in self._sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
        self.numbers = [s.getsockname()[1] for s in self._sockets]

    def close(self):
        for s in self._sockets:
            s.close()


class Controller:
    """One controller: its ports stay the same over restarts."""

    def __init__(self, name):
        self.name = name
        self.ports = Ports(3)
        self.port, self.admin_port, self.worker_port = self.ports.numbers
        self.process = None


class Control:
    """Processes by hand. journal: "file", "none", or what --journal takes."""

    def __init__(self, variant=None, journal="file", extra=(), model=cluster.MODEL, env=None):
        self.variant, self.model, self.extra = cluster.variant_of(variant, "mixed"), model, list(extra)
        self.env = env or {}  # of all that is started
        self.dir = tempfile.mkdtemp(prefix="godwit-test-")
        self.mark = uuid.uuid4().hex
        self.journal = os.path.join(self.dir, "journal") if journal == "file" else journal
        self.key = os.path.join(self.dir, "cluster-key")
        with open(os.open(self.key, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(uuid.uuid4().hex)
        self.controllers, self.workers, self.starts = {}, {}, 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        problems = self._stop()
        for c in self.controllers.values():
            c.ports.close()
        reports = cluster.sanitizer_reports(self.dir)
        problems += [f"sanitizer reports: {len(reports)}, the first: {reports[0][:3000]}"] if reports else []
        if error is not None or problems:
            tap.note(self.tail() + "".join(reports))
        shutil.rmtree(self.dir, ignore_errors=True)
        if error is None and problems:
            raise AssertionError("; ".join(problems))

    def _stop(self):
        """Ends workers, then controllers, by SIGTERM; returns what was not as it should be."""
        problems = []
        for group in (self.workers.items(), ((n, c.process) for n, c in self.controllers.items())):
            running = [(n, p) for n, p in group if p and p.poll() is None]
            for _, p in running:
                p.send_signal(signal.SIGINT)
            for name, p in running:
                try:
                    p.wait(20)
                except subprocess.TimeoutExpired:
                    problems.append(f"{name} was still there 20 s after SIGINT")
        for pid in cluster.pids_with_mark(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return problems

    def said(self, text):
        """Does any program's log have it?"""
        return text in self.tail(most=1 << 24)

    def tail(self, most=2500):
        parts = []
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    parts.append(f"--- {name}\n{f.read()[-most:]}")
        return "\n".join(parts)

    def _spawn(self, name, argv):
        self.starts += 1
        env = {**os.environ, **self.env, **cluster.sanitizer_env(self.dir), cluster.MARK: self.mark}
        with open(os.path.join(self.dir, f"{name}-{self.starts}.log"), "wb") as log:
            return subprocess.Popen(
                [*cluster.DIE_WITH_PARENT, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    def spawn(self, name, argv):
        """Another program of the cluster, which ends with it."""
        self.workers[name] = self._spawn(name, argv)
        return self.workers[name]

    def _program(self, name):
        """Of a mixed build: workers are of the release build, sanitized kernels are too slow for streams worth killing."""
        mixed = "release" if name == "godwit-worker" else "asan"
        return cluster.program(name, mixed if self.variant == "mixed" else self.variant)

    # ---- controllers

    def start_controller(self, name="c0", extra=(), wait=True):
        """Starts it (again), with the ports that it had; returns it once it serves."""
        c = self.controllers.setdefault(name, Controller(name))
        ready = os.path.join(self.dir, f"{name}.ready")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ready)
        argv = [self._program("godwit-controller"), "--model", self.model, "--cluster-key-file", self.key]
        argv += ["--port", str(c.port), "--admin-listen", f"127.0.0.1:{c.admin_port}"]
        argv += ["--worker-listen", f"127.0.0.1:{c.worker_port}", "--ready-file", ready, "--layout", "replicas"]
        argv += ["--journal", self.journal, "--stop-grace-s", "0", *self.extra, *extra]
        c.process = self._spawn(name, argv)
        if wait:
            self.wait_serving(name)
        return c

    def wait_serving(self, name="c0"):
        c = self.controllers[name]
        self.wait(lambda: os.path.exists(os.path.join(self.dir, f"{name}.ready")), READY_S, f"{name} serves", c.process)
        return c

    def kill_controller(self, name="c0", sig=signal.SIGKILL):
        p = self.controllers[name].process
        p.send_signal(sig)
        p.wait(20)

    # ---- workers

    def start_workers(self, count, controllers=("c0",)):
        for i in range(len(self.workers), len(self.workers) + count):
            self.workers[f"w{i}"] = self._start_worker(f"w{i}", f"i{i}", controllers)

    def start_instance(self, instance, controllers=("c0",), extra=()):
        """A worker that is named as its instance is; its process is the caller's."""
        return self._start_worker(instance, instance, controllers, extra)

    def _start_worker(self, worker, instance, controllers, extra=()):
        endpoints = ",".join(f"127.0.0.1:{self.controllers[n].worker_port}" for n in controllers if n in self.controllers)
        argv = [self._program("godwit-worker"), "--model", self.model, "--controller", endpoints]
        argv += ["--worker-id", worker, "--instance-id", instance, "--cluster-key-file", self.key, "--threads", "1", *extra]
        return self._spawn(worker, argv)

    def fake_worker_flags(self, name="c0", profile="cpu-f32-2"):
        """What a program that only plays a worker (tests/lib/fake_worker.h) needs to know; it has the release build's digest."""
        said = subprocess.run([cluster.program("godwit-worker", "release"), "--digest", "--profile", profile],
                              capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
        digest = re.search(r"\b[0-9a-f]{64}\b", said.stdout)[0]
        with open(os.path.join(self.model, "config.json")) as f:
            model = json.load(f)
        flags = ["--model", self.model, "--cluster-key-file", self.key, "--profile", profile, "--digest", digest]
        flags += ["--port", str(self.controllers[name].worker_port), "--vocab", str(model["vocab_size"])]
        return [*flags, "--context", str(model["max_position_embeddings"])]

    def wait_workers(self, count, name="c0"):
        def up():
            try:
                return self.admin("/admin/stats", name=name)["workers_up"] >= count
            except OSError:
                return False

        self.wait(up, READY_S, f"{count} workers are up at {name}")

    # ---- talking

    def wait(self, condition, deadline_s, what, process=None):
        end = time.monotonic() + deadline_s
        while not condition():
            if process and process.poll() is not None:
                raise RuntimeError(f"ended with status {process.returncode} while waiting until {what}\n{self.tail()}")
            if time.monotonic() > end:
                raise TimeoutError(f"after {deadline_s:.0f} s it does not hold that {what}")
            time.sleep(0.02)

    def admin(self, path, body=None, name="c0"):
        status, _, answer = client.call(
            "127.0.0.1", self.controllers[name].admin_port, "GET" if body is None else "POST", path, body
        )
        if status // 100 != 2:
            raise AssertionError(f"{path}: status {status}: {answer}")
        return answer

    def get(self, path, name="c0", **kw):
        return client.call("127.0.0.1", self.controllers[name].port, "GET", path, **kw)

    def post(self, path, body, name="c0", **kw):
        return client.call("127.0.0.1", self.controllers[name].port, "POST", path, body, **kw)

    def metric(self, name, controller="c0", labels=""):
        """The sum of a metric's samples, of those that have these labels."""
        lines = [line for line in self.admin("/metrics", name=controller).splitlines() if line.startswith(name + "{")]
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if labels in line]
        if not values:
            raise AssertionError(f"no metric {name}")
        return sum(values)


