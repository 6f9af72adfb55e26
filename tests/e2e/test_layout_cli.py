#!/usr/bin/env python3
"""Layouts by hand: POST /admin/layout, `godwit status`, `top` and `drain` on a cluster of four workers.

Streams that run meanwhile are compared with the undisturbed run of the same requests.
"""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import client  # noqa: E402
import cluster  # noqa: E402
import compare  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from tap import check, check_equal  # noqa: E402

WORKERS = 4
STREAMS = 6
TOKENS = 400
STREAMS_S = 180.0
SERVE_S = 30.0  # a plan is taken, its pipelines serve
END_S = 30.0  # a command ends
SHAPES = ["tp3", "2xtp2", "3+3+2", "pp2", "3+5/8", "replicas", "tp4"]
RANKS = {"tp3": [3], "2xtp2": [2, 2], "3+3+2": [3], "pp2": [2], "3+5/8": [3], "replicas": [1] * WORKERS, "tp4": [4]}


class Context:
    """The shared cluster, the requests with their undisturbed streams, and the means to run a command on it."""

    def __init__(self, up, variant):
        self.up, self.variant = up, variant
        self.requests = workload.stories(STREAMS, 5, TOKENS)
        self.references = load.run_once(up.http, self.requests, STREAMS, STREAMS_S)

    def argv(self, *words):
        variant = "asan" if self.variant == "mixed" else self.variant
        return [cluster.program("godwit", variant), *words, "--admin", f"127.0.0.1:{self.up.admin_port}"]

    def env(self, **more):
        return {**os.environ, **cluster.sanitizer_env(self.up.dir), "LC_ALL": "C.UTF-8", **more}

    def run(self, *words, **env):
        """(status, standard output, lines of standard error)"""
        done = subprocess.run(
            self.argv(*words), capture_output=True, timeout=END_S, env=self.env(**env), stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode().splitlines()

    def force(self, layout):
        return self.up.admin("/admin/layout", {"layout": layout})

    def layout(self):
        return self.up.admin("/admin/layout")

    def serve(self, layout, ranks):
        """Forces a layout and waits until just pipelines of so many ranks each serve."""
        answer = self.force(layout)

        def serves():
            pipelines = self.layout()["pipelines"]
            states = {p["state"] for p in pipelines}
            return states == {"serving"} and sorted(len(p["ranks"]) for p in pipelines) == sorted(ranks)

        self.up.wait(serves, SERVE_S, f"{layout} serves")
        return answer

    def start(self, tokens_first):
        """The requests in a circle, so that some are under way whatever happens."""
        work = load.Load(self.up.http, self.requests, STREAMS).start()
        load.wait_progress(self.up.http, [stream for _, stream in work.streams], tokens_first, STREAMS_S)
        return work

    def finish(self, work):
        work.finish(STREAMS_S)
        verdict = work.judge(self.references)
        check(verdict.good(), f"{verdict}")


def test_forced_layouts_follow_each_other_under_load(ctx):
    work, epochs = ctx.start(tokens_first=5), []
    moves = ctx.up.admin("/admin/stats")["announced_moves"]
    for layout in SHAPES:
        epochs.append(ctx.serve(layout, RANKS[layout])["epoch"])
    check(epochs == sorted(set(epochs)), f"epochs do not grow: {epochs}")
    ctx.finish(work)
    moves = ctx.up.admin("/admin/stats")["announced_moves"] - moves
    check(moves >= 2 * STREAMS, f"{moves} moves: too few streams saw the layouts change")
    layout = ctx.layout()
    for p in layout["pipelines"]:
        cells = [(g, s) for r in p["ranks"] for g in range(*r["groups"]) for s in range(*r["shares"])]
        check_equal(sorted(cells), [(g, s) for g in range(layout["groups"]) for s in range(layout["shares"])], "cells")


def test_served_layout_forced_again_changes_no_pipeline(ctx):
    ctx.serve("2xtp2", [2, 2])
    before = [p["generation"] for p in ctx.layout()["pipelines"]]
    ctx.serve("2xtp2", [2, 2])
    check_equal([p["generation"] for p in ctx.layout()["pipelines"]], before, "generations")


def test_wrong_layouts_are_refused_in_one_line(ctx):
    before = ctx.layout()
    for body, words in [
        ({"layout": "tp9"}, "the model has 8"),
        ({"layout": "4+5"}, "sum to 9"),
        ({"layout": "tp"}, "at character 3"),
        ({"layout": "x" * 300}, "at most 256"),
        ({"layout": 4}, "layout"),
        ({}, "is needed"),
    ]:
        status, _, answer = client.call(ctx.up.host, ctx.up.admin_port, "POST", "/admin/layout", body)
        check_equal(status, 400, f"{body}: status")
        text = answer["error"]["message"]
        check(words in text and "\n" not in text, f"{body}: {text}")
    after = ctx.layout()
    check_equal((after["layout"], after["epoch"]), (before["layout"], before["epoch"]), "layout and epoch")


def test_layout_beyond_the_fleet_is_served_as_far_as_it_goes(ctx):
    answer = ctx.serve("3xtp2", [2, 2])
    check_equal((answer["pipelines"], answer["pipelines_wanted"]), (2, 3), "pipelines placed and wanted")
    ctx.serve("tp3", [3])
    unplaced = ctx.layout()["unplaced"]
    check_equal([u["why"] for u in unplaced], ["the layout has no place for it"], "workers without a rank")


def test_status_draws_every_worker(ctx):
    ctx.serve("3+3+2", [3])
    status, out, err = ctx.run("status", COLUMNS="80")
    check_equal((status, err), (0, []), "status and errors")
    for worker in ctx.up.workers("up"):
        check(worker in out, f"{worker} is not in\n{out}")
    check("layout 3+3+2" in out and "1 pipeline serves" in out, out)
    check("■ ■ ■│■ ■ ■│■ ■" in out, out)
    check(all(len(line) <= 80 for line in out.splitlines()), f"wider than 80 columns:\n{out}")
    check("\033" not in out, "colours where there is no terminal")
    _, ascii_out, _ = ctx.run("status", "--ascii")
    check(ascii_out.isascii() and "|# # #|# # #|# #|" in ascii_out, ascii_out)
    _, c_out, _ = ctx.run("status", LC_ALL="C")
    check(c_out.isascii(), "not ASCII in the C locale")


def test_status_json_is_what_the_controller_says(ctx):
    status, out, _ = ctx.run("status", "--json")
    said = json.loads(out)
    check_equal((status, sorted(said)), (0, ["layout", "stats", "workers"]), "status and parts")
    check_equal(len(said["workers"]["workers"]), WORKERS, "workers")
    check_equal(said["layout"]["layout"], ctx.layout()["layout"], "layout")


def test_commands_without_a_controller_say_what_to_do(ctx):
    for words, text in [
        (["status", "--admin", "127.0.0.1:1"], "nobody answers at 127.0.0.1:1"),
        (["top", "--admin", "127.0.0.1:1"], "nobody answers"),
        (["drain", "x", "--admin", "127.0.0.1:1"], "nobody answers"),
        (["status", "--admin", "nonsense"], "expected HOST:PORT"),
        (["status", "--admin", f"127.0.0.1:{ctx.up.port}"], "is no admin listener"),
        (["top"], "needs a terminal"),
        (["drain"], "which instance?"),
        (["drain", "i-none"], "there is no instance 'i-none'; there are: i-w"),
    ]:
        argv = ctx.argv(*words) if "--admin" not in words else [ctx.argv("status")[0], *words]
        done = subprocess.run(argv, capture_output=True, timeout=END_S, env=ctx.env(), stdin=subprocess.DEVNULL)
        err = done.stderr.decode().splitlines()
        check_equal(done.returncode, 1, f"{words}: status")
        check(len(err) == 1 and text in err[0], f"{words}: {err}")


def on_terminal(argv, env, enough, keys):
    """Runs a command on a terminal of 80 x 24 until enough(output), then types; (exit status, output)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        out, end, typed = b"", time.monotonic() + END_S, False
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    got = os.read(fd, 65536)
                except OSError:
                    break
                if not got:
                    break
                out += got
            if not typed and enough(out):
                os.write(fd, keys)
                typed = True
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out
    finally:
        os.close(fd)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)


def test_top_draws_each_second_and_q_quits(ctx):
    ctx.serve("2xtp2", [2, 2])
    argv = ctx.argv("top", "--interval", "0.2")
    env = ctx.env()
    env.pop("COLUMNS", None)
    status, out = on_terminal(argv, env, lambda o: o.count(b"\033[H") >= 4, b"q")
    check_equal(status, 0, "exit status")
    frames = out.split(b"\033[H")
    check(len(frames) >= 5, f"{len(frames)} frames")
    check(out.endswith(b"\033[?25h\033[?1049l"), f"the screen is not given back: {out[-40:]}")
    frame = frames[-2].decode()
    check("2 pipelines serve" in frame and "w3" in frame and "q quits" in frame, frame)
    lines = frame.split("\033[J")[0].split("\r\n")
    check(len(lines) <= 24, f"{len(lines)} lines")


def test_top_ends_by_ctrl_c(ctx):
    status, out = on_terminal(ctx.argv("top"), ctx.env(), lambda o: o.count(b"\033[H") >= 1, b"\x03")
    check_equal(status, 0, "exit status")
    check(out.endswith(b"\033[?25h\033[?1049l"), "the screen is not given back")


def instance_of(ctx, worker):
    return next(w["instance"] for w in ctx.up.admin("/admin/workers")["workers"] if w["worker"] == worker)


def test_drain_empties_an_instance_and_clients_see_nothing(ctx):
    ctx.serve("2xtp2", [2, 2])
    work = ctx.start(tokens_first=5)
    victim = ctx.layout()["pipelines"][0]["ranks"][1]["worker"]
    instance = instance_of(ctx, victim)
    status, out, err = ctx.run("drain", instance, "--timeout", "60")
    check_equal((status, err), (0, []), f"status and errors of\n{out}")
    check(f"{instance} is empty" in out.splitlines()[-1], out)
    on = [r["worker"] for p in ctx.layout()["pipelines"] for r in p["ranks"]]
    check(victim not in on, f"{victim} still has a rank")
    ctx.finish(work)
    status, out, _ = ctx.run("drain", "--cancel", instance)
    check(status == 0 and "stays" in out, out)
    ctx.serve("2xtp2", [2, 2])


def test_drain_cancelled_by_ctrl_c_takes_the_notice_back(ctx):
    ctx.serve("tp4", [4])
    instance = instance_of(ctx, "w0")
    # no other pipeline can take over: drain waits
    drain = subprocess.Popen(
        ctx.argv("drain", instance, "--timeout", "120"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ctx.env()
    )

    def state():
        return {w["worker"]: w["state"] for w in ctx.up.admin("/admin/workers")["workers"]}["w0"]

    try:
        ctx.up.wait(lambda: state() == "doomed", END_S, "the notice is there")
        drain.send_signal(signal.SIGINT)
        out, err = drain.communicate(timeout=END_S)
    finally:
        drain.kill()
        drain.wait()
    check_equal((drain.returncode, err), (130, b""), f"status and errors of {out}")
    check(b"cancelled" in out, out)
    check_equal(state(), "up", "state of w0")
    ctx.serve("tp4", [4])


def test_metrics_follow_the_layout(ctx):
    epoch = ctx.serve("replicas", [1] * WORKERS)["epoch"]
    text = client.call(ctx.up.host, ctx.up.admin_port, "GET", "/metrics")[2]
    text = text.decode() if isinstance(text, bytes) else text
    check(f'godwit:epoch{{model_name="tattler-3m"}} {epoch}\n' in text, "no epoch")
    check(f'godwit:pipelines{{model_name="tattler-3m",state="serving"}} {WORKERS}\n' in text, "no pipelines")


def test_admin_token_is_asked_for(ctx):
    """A controller of its own, whose admin listener wants a token."""
    with tempfile.TemporaryDirectory() as d:
        for name, text in (("key", "k" * 32), ("token", "let-me-in"), ("other", "wrong")):
            with open(os.open(os.path.join(d, name), os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                f.write(text)
        variant = "asan" if ctx.variant == "mixed" else ctx.variant
        argv = [cluster.program("godwit-controller", variant), "--model", cluster.MODEL]
        argv += ["--cluster-key-file", f"{d}/key", "--admin-token-file", f"{d}/token", "--ready-file", f"{d}/ready"]
        argv += ["--port", "0", "--admin-listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0"]
        controller = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ctx.env())
        try:
            ctx.up.wait(lambda: os.path.exists(f"{d}/ready"), END_S, "the controller is ready")
            with open(f"{d}/ready") as f:
                admin = f"127.0.0.1:{json.load(f)['admin_port']}"
            for token, status, text in [
                ([], 1, "asks for its admin token: --admin-token-file FILE"),
                (["--admin-token-file", f"{d}/other"], 1, "and it is not this one"),
                (["--admin-token-file", f"{d}/none"], 1, "--admin-token-file"),
                (["--admin-token-file", f"{d}/token"], 0, "0 pipelines serve"),
            ]:
                argv = [ctx.argv("status")[0], "status", "--admin", admin, *token]
                done = subprocess.run(argv, capture_output=True, timeout=END_S, env=ctx.env())
                check_equal(done.returncode, status, f"{token}: status")
                check(text in (done.stderr if status else done.stdout).decode(), f"{token}: {done}")
        finally:
            controller.terminate()
            controller.wait(END_S)


def test_model_larger_than_a_worker_is_served_by_two(ctx):
    """12 MB each; the model and one long request need 19.3 MB. One worker lost: requests wait, and go on."""
    extra = ["--layout", "auto", "--memory-limit", "12000000"]
    with cluster.Cluster(variant=ctx.variant, workers=2, replace_after_s=2.0, extra=extra) as up:
        pipelines = up.admin("/admin/layout")["pipelines"]
        check_equal([len(p["ranks"]) for p in pipelines], [2], "ranks of the pipelines")
        stream = up.submit(*ctx.requests[0])
        up.http.wait_for(lambda: stream.closed or stream.tokens() >= 3, STREAMS_S)
        up.kill("w1", signal.SIGKILL)

        def not_ready():
            status, _, answer = up.get("/ready")
            return status == 503 and answer.get("missing_bytes", 0) > 0 and answer

        answer = up.wait(not_ready, END_S, "/ready says what is missing")
        check("are missing" in answer["reason"], answer)
        up.http.wait([stream], STREAMS_S)
        verdict = compare.judge({0: ctx.references[0]}, {0: stream})
        check(verdict.good(), f"first trouble: {verdict.first_trouble}")


@contextlib.contextmanager
def setup(args):
    variant = cluster.variant_of(args.variant, default="mixed")
    with cluster.Cluster(variant=variant, workers=WORKERS, extra=["--layout", "tp4"]) as up:
        yield Context(up, variant)


TESTS = [
    test_forced_layouts_follow_each_other_under_load,
    test_served_layout_forced_again_changes_no_pipeline,
    test_wrong_layouts_are_refused_in_one_line,
    test_layout_beyond_the_fleet_is_served_as_far_as_it_goes,
    test_status_draws_every_worker,
    test_status_json_is_what_the_controller_says,
    test_commands_without_a_controller_say_what_to_do,
    test_top_draws_each_second_and_q_quits,
    test_top_ends_by_ctrl_c,
    test_drain_empties_an_instance_and_clients_see_nothing,
    test_drain_cancelled_by_ctrl_c_takes_the_notice_back,
    test_metrics_follow_the_layout,
    test_admin_token_is_asked_for,
    test_model_larger_than_a_worker_is_served_by_two,
]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
