"""A redis-server of a test's own: on a unix socket in a temporary directory, gone with it.

    with RedisServer("--maxmemory", "50mb") as r:
        Cluster(extra=["--store", r.url])
        r.kill(), r.start(), r.pause(), r.go_on(), r.call("DBSIZE")
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from cluster import DIE_WITH_PARENT

START_S = 20.0


def installed():
    return shutil.which("redis-server") is not None


class RedisServer:
    def __init__(self, *extra):
        self.dir = tempfile.mkdtemp(prefix="godwit-redis-")
        self.path, self.extra, self.process = os.path.join(self.dir, "s"), extra, None
        self.url = f"redis+unix:{self.path}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- the process

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        fixed = ["--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no", "--dir", self.dir]
        self.process = subprocess.Popen(
            [*DIE_WITH_PARENT, "redis-server", *fixed, *self.extra], stdout=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                self.call("PING")
                return
            if time.monotonic() > end:
                raise TimeoutError("redis-server does not start")
            time.sleep(0.01)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    # ---- talking

    def call(self, *words):
        """One command; its answer. RuntimeError for an error."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(self.path)
            parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
            s.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            with s.makefile("rb") as f:
                return read_answer(f)

    def pages(self):
        """[(key, field)] of all pages that are there."""
        return [(k, field) for k in self.call("KEYS", "godwit:page:*") for field in self.call("HKEYS", k)]


def read_answer(f):
    line = f.readline()
    kind, text = line[:1], line[1:].strip()
    if kind == b"-":
        raise RuntimeError(text.decode())
    if kind == b"+":
        return text
    if kind == b":":
        return int(text)
    if kind == b"$":
        return None if text == b"-1" else f.read(int(text) + 2)[:-2]
    if kind == b"*":
        return [read_answer(f) for _ in range(int(text))]
    raise ConnectionError(f"redis-server said {line!r}")
