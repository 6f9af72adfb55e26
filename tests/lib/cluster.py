"""A whole cluster for a test: `godwit up` with controller and workers, on free ports, gone without a trace at the end.

    with Cluster(variant="asan", workers=4) as c:
        c.post("/v1/chat/completions", {...})
        c.kill("w1", signal.SIGKILL)
        c.wait_event(lambda e: e["kind"] == "worker_lost", 5)

The end of the block is a test of its own: `up` must end by SIGTERM with status 0, no process that it started may be
left (frozen ones included), and no sanitizer may have reported anything.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid

import client
import tap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "tests", "models", "tattler-3m")
MARK = "GODWIT_TEST_MARK"  # in the environment of everything that a cluster starts: how leftovers are found
# `up` gets SIGTERM when the test is killed: it lives in a session of its own, which no time-out's kill reaches.
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
READY_S = 60.0
STOP_S = 20.0


def variant_of(wanted=None, default="asan"):
    """The build to run on: argument, else $GODWIT_VARIANT, else the default."""
    return wanted or os.environ.get("GODWIT_VARIANT") or default


def program(name, variant=None):
    """Path of one of the project's programs under build/ (or $GODWIT_BUILD); FileNotFoundError if it was not built."""
    variant = variant_of(variant)
    path = os.path.join(os.environ.get("GODWIT_BUILD") or os.path.join(ROOT, "build"), variant, name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is not there: run `make {'asan' if variant == 'asan' else 'all'}`")
    return path


def mixed_build(directory):
    """A directory of programs for load that sanitized kernels are too slow for: `up` and controller with ASan and
    UBSan, workers of the release build. Returns the path of its `godwit`, which finds the others beside itself."""
    path = os.path.join(directory, "bin")
    os.mkdir(path)
    # Not by this process: one that another thread forks meanwhile would hold the copy open for writing, and it could not be run.
    subprocess.run(["cp", program("godwit", "asan"), path], check=True)
    for name, variant in (("godwit-controller", "asan"), ("godwit-watch", "asan"), ("godwit-worker", "release")):
        os.symlink(program(name, variant), os.path.join(path, name))
    return os.path.join(path, "godwit")


def pids_with_mark(mark):
    """Live processes (zombies have no environment) that carry the mark."""
    needle, found = f"{MARK}={mark}".encode(), []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as f:
                if needle in f.read().split(b"\0"):
                    found.append(int(path.split("/")[2]))
        except OSError:
            continue
    return found


def alive(pid):
    """Is the process there, and not just a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def sanitizer_env(directory):
    """Environment that makes sanitizer reports files in `directory`, whoever's standard error is where."""
    common = f"log_path={directory}/sanitizer:abort_on_error=0:exitcode=99"
    return {
        "ASAN_OPTIONS": f"{common}:detect_stack_use_after_return=1:malloc_context_size=12",
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1",
        "LSAN_OPTIONS": common,
    }


def sanitizer_reports(directory):
    """Text of all reports written under `directory`."""
    texts = []
    for path in sorted(glob.glob(os.path.join(directory, "sanitizer.*"))):
        with open(path, errors="replace") as f:
            texts.append(f.read())
    return texts


class Events(client.EventStream):
    """The timeline of the admin listener. Each event gets `at_s`, its arrival on this process's monotonic clock.

    Fields: time_ms, kind (worker_up, worker_doomed, worker_lost, worker_left, notice_cancelled, request_moved …),
    worker, generation, request, attempt, count, announced, text.
    """

    def __init__(self):
        super().__init__("/admin/events")
        self.list = []

    def on_data(self, data, now_s):
        self.list.append({**json.loads(data), "at_s": now_s})


class Cluster:
    """`godwit up` as a context manager. Attributes once entered: host, port, admin_port, pid."""

    def __init__(
        self,
        variant=None,
        workers=4,
        model=MODEL,
        replace_after_s=3.0,
        threads_per_worker=1,
        term_grace_s=None,
        worker_connect=None,
        worker_port=0,
        extra=(),
        ready_s=READY_S,
        godwit=None,
        env=None,
    ):
        self.variant, self.ready_s, self.env = variant_of(variant), ready_s, env or {}
        self.dir = tempfile.mkdtemp(prefix="godwit-test-")
        self.mark = uuid.uuid4().hex
        self.state_path = os.path.join(self.dir, "state.json")
        if self.variant == "mixed":
            godwit = mixed_build(self.dir)
        self.argv = [
            *DIE_WITH_PARENT,
            godwit or program("godwit", self.variant),
            "up",
            "--model",
            model,
            "--workers",
            str(workers),
            "--port",
            "0",
            "--admin-port",
            "0",
            "--state",
            self.state_path,
            "--replace-after",
            str(replace_after_s),
            "--threads-per-worker",
            str(threads_per_worker),
            "--log-dir",
            self.dir,
            "--worker-port",
            str(worker_port),
        ]
        if term_grace_s is not None:
            self.argv += ["--term-grace-s", str(term_grace_s)]
        if worker_connect:
            self.argv += ["--worker-connect", worker_connect]
        self.argv += list(extra)
        self.process = self.http = self.events = self._admin = None

    # ---- start and end

    def __enter__(self):
        out = open(os.path.join(self.dir, "up.out"), "wb")
        env = {**os.environ, **sanitizer_env(self.dir), **self.env, MARK: self.mark}
        with out:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        self.pid = self.process.pid
        try:
            self._wait_ready()
        except BaseException as e:
            self._kill_all()
            text = self.output()
            shutil.rmtree(self.dir, ignore_errors=True)
            raise RuntimeError(f"the cluster did not get ready: {e}\n{text[-3000:]}") from e
        return self

    def _wait_ready(self):
        self.wait(lambda: os.path.exists(self.state_path), self.ready_s, "`godwit up` is ready")
        state = self.state()
        self.host, self.port = split_url(state["url"])
        _, self.admin_port = split_url(state["admin_url"])
        self.worker_endpoint = state.get("worker_endpoint")
        self.http = client.Client(self.host, self.port).start()
        self._admin = client.Client(self.host, self.admin_port).start()
        self.events = self._admin.submit(Events())
        self.wait(lambda: self.events.status == 200, 10, "the admin listener streams events")

    def __exit__(self, kind, error, trace):
        for c in (self.http, self._admin):
            if c:
                c.stop()
        problems = self._stop()
        if error is not None or problems:
            tap.note(self.tail())
        shutil.rmtree(self.dir, ignore_errors=True)
        if error is None and problems:
            raise AssertionError("; ".join(problems))

    def _stop(self):
        """Ends `up` as a user does; returns what was not as it should be."""
        problems = []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                problems.append(f"`up` was still there {STOP_S:.0f} s after SIGTERM")
        if self.process.poll() not in (0, None):
            problems.append(f"`up` ended with status {self.process.poll()}")
        left = pids_with_mark(self.mark)
        if left:
            problems.append(f"processes left behind: {[command_of(p) for p in left]}")
        self._kill_all()
        reports = sanitizer_reports(self.dir)
        problems += [f"sanitizer reports: {len(reports)}, the first: {reports[0][:3000]}"] if reports else []
        return problems

    def _kill_all(self):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            left = pids_with_mark(self.mark)
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        if self.process:
            self.process.wait(10)

    # ---- looking

    def state(self):
        """The state file's content."""
        with open(self.state_path) as f:
            return json.load(f)

    def workers(self, *states):
        """{id: pid} of the workers in one of `states` (all, when none is named) that have a process."""
        return {
            w["id"]: w["pid"] for w in self.state()["workers"] if w["pid"] > 0 and (not states or w["state"] in states)
        }

    def kill(self, worker, sig):
        """Sends a signal to a worker's process, by its id; returns the pid."""
        pid = self.workers()[worker]
        os.kill(pid, sig)
        return pid

    def wait(self, condition, deadline_s, what):
        """Polls condition() until it holds; TimeoutError after deadline_s, at once if `up` has ended."""
        end = time.monotonic() + deadline_s
        while True:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"`up` ended with status {self.process.returncode} while waiting until {what}\n"
                    f"{self.output()[-2000:]}"
                )
            if time.monotonic() > end:
                raise TimeoutError(f"after {deadline_s:.0f} s it does not hold that {what}")
            time.sleep(0.01)

    def wait_workers(self, count, deadline_s=30.0):
        """Waits until at least so many workers are up; returns {id: pid}."""
        return self.wait(
            lambda: (up := self.workers("up")) and len(up) >= count and up, deadline_s, f"{count} workers are up"
        )

    def wait_event(self, match, deadline_s, what="the event is there", since=0):
        """The first timeline event from index `since` on for which match(event) holds."""
        return self.wait(lambda: next((e for e in self.events.list[since:] if match(e)), None), deadline_s, what)

    def output(self):
        """What `up` has printed."""
        with open(os.path.join(self.dir, "up.out"), errors="replace") as f:
            return f.read()

    def tail(self, most=2500):
        """The end of every log, for a report."""
        parts = []
        for path in sorted(glob.glob(os.path.join(self.dir, "*"))):
            if not path.endswith((".log", ".out")):
                continue
            with open(path, errors="replace") as f:
                parts.append(f"--- {os.path.basename(path)}\n{f.read()[-most:]}")
        return "\n".join(parts)

    # ---- talking

    def get(self, path, **kw):
        return client.call(self.host, self.port, "GET", path, **kw)

    def post(self, path, body, **kw):
        return client.call(self.host, self.port, "POST", path, body, **kw)

    def admin(self, path, body=None):
        """GET (or POST with a body) on the admin listener; the parsed answer. AssertionError unless it is 2xx."""
        status, _, answer = client.call(self.host, self.admin_port, "GET" if body is None else "POST", path, body)
        if status // 100 != 2:
            raise AssertionError(f"{path}: status {status}: {answer}")
        return answer

    def cloud(self, path, body=None):
        """The same of the simulated cloud's API, with `--cloud sim`."""
        host, port = split_url(self.state()["cloud_url"])
        status, _, answer = client.call(host, port, "GET" if body is None else "POST", path, body)
        if status // 100 != 2:
            raise AssertionError(f"{path}: status {status}: {answer}")
        return answer

    def requests_on(self):
        """{worker id: requests on it} for the workers that the controller sees."""
        return {w["worker"]: w["requests"] for w in self.admin("/admin/workers")["workers"]}

    def submit(self, path, body, **kw):
        """Starts a streamed request; returns its client.Completion."""
        return self.http.submit(
            client.Completion(path, {**body, "stream": True, "stream_options": {"include_usage": True}}, **kw)
        )


def split_url(url):
    """("127.0.0.1", 8000) of http://127.0.0.1:8000/…"""
    host, _, port = url.split("//", 1)[1].split("/")[0].rpartition(":")
    return host, int(port)


def command_of(pid):
    """Pid and command line of a process, for a report."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f"{pid}: {f.read().replace(bytes(1), b' ').decode(errors='replace').strip()[:120]}"
    except OSError:
        return f"{pid}: gone"


class Every:
    """Calls a function every `interval_s` in a thread of its own until the block ends: samples for a test."""

    def __init__(self, interval_s, function):
        self._interval_s, self._function, self._stop = interval_s, function, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.wait(self._interval_s):
            self._function()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
