#!/usr/bin/env python3
"""`godwit plan`: what it prints, what it gives to programs, what it says of wrong files; Kuhn-Munkres against scipy."""

import contextlib
import copy
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import tap  # noqa: E402
from tap import Skip, check, check_equal, note  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "tests/data/plan")
END_S = 60
LINE_MAX = 600  # bytes of the one clear line
GROUPS, SHARES = 20, 8  # of llama-70b


def read(name):
    with open(os.path.join(DATA, name)) as f:
        return json.load(f)


class Context:
    """A place for changed files, and the means to run the command on them."""

    def __init__(self, directory, variant):
        self.dir, self.variant = directory, variant
        self.fleet, self.load = read("fleet.json"), read("load.json")

    def write(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def run(self, *more, fleet=None, load=None, model=os.path.join(DATA, "llama-70b")):
        """(status, standard output, lines of standard error)"""
        argv = [cluster.program("godwit", self.variant), "plan", "--model", model]
        argv += ["--fleet", self.write("fleet.json", self.fleet if fleet is None else fleet)]
        argv += ["--load", self.write("load.json", self.load if load is None else load), *more]
        env = {**os.environ, **cluster.sanitizer_env(self.dir)}
        done = subprocess.run(argv, capture_output=True, timeout=END_S, env=env, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace").splitlines()

    def plan(self, *more, **files):
        status, out, err = self.run("--json", *more, **files)
        check_equal((status, err), (0, []), "status and errors")
        return json.loads(out)

    def refused(self, what, text, *more, **files):
        """The command ends with status 1 and one line that has `text` in it."""
        status, out, err = self.run(*more, **files)
        check_equal((status, out, len(err)), (1, "", 1), f"{what}: status, output and lines of errors ({err})")
        check(err[0].startswith("godwit plan: ") and len(err[0]) < LINE_MAX, f"{what}: {err[0]!r}")
        check(text in err[0], f"{what}: {text!r} is not in {err[0]!r}")


def cells_of(ranks, pipeline):
    return [
        (g, s)
        for r in ranks
        if r["pipeline"] == pipeline
        for g in range(*r["groups"])
        for s in range(*r["shares"])
    ]


def test_text_has_picture_reason_move_and_losses(ctx):
    status, out, err = ctx.run()
    check_equal((status, err), (0, []), "status and errors")
    for line in ("pipeline 0: ", "shares 0", "+---", "chosen ", "runner-up ", "why ", "move ", "wish "):
        check(line in out, f"{line!r} is missing:\n{out}")
    check("if one instance went" in out and "pipelines serve on" in out, f"no losses:\n{out}")
    names = [f"{i}/{d}" for i in ("east-h-0", "west-h") for d in range(4)]
    check(all(n in out for n in names), f"devices are missing in the picture:\n{out}")
    check("west-going" not in out, f"a doomed instance has work:\n{out}")
    boxes = [line for line in out.splitlines() if line.endswith(("|", "+"))]
    check(boxes and all(line.isascii() for line in boxes), "boxes are not plain ASCII")


def test_json_holds_every_cell_once_per_pipeline(ctx):
    plan = ctx.plan()
    check_equal(plan["verdict"], "move", "verdict")
    ranks = plan["layout"]["ranks"]
    every = sorted((g, s) for g in range(GROUPS) for s in range(SHARES))
    check(plan["layout"]["pipelines"] >= 2, "one pipeline only")
    for p in range(plan["layout"]["pipelines"]):
        check_equal(sorted(cells_of(ranks, p)), every, f"cells of pipeline {p}")
    places = [(r["instance"], r["device"]) for r in ranks]
    check_equal(len(set(places)), len(places), "devices that have one rank")
    check(all(r["instance"] != "west-going" for r in ranks), "a rank on a doomed instance")
    fetched = sum(s["bytes"] for s in plan["move"]["steps"] if s["kind"] == "weights")
    check_equal(fetched, plan["move"]["weight_bytes"], "bytes of all steps")
    check(sum(loss["alike"] for loss in plan["losses"]) >= 4, f"losses: {plan['losses']}")


def test_same_input_same_output(ctx):
    check_equal(ctx.run("--json")[1], ctx.run("--json")[1], "second output")


def test_what_serves_is_kept(ctx):
    layout = ctx.plan()["layout"]
    current = {"ranks": [{**r, "kv_bytes_per_cell": 1e8} for r in layout["ranks"]]}
    plan = ctx.plan("--current", ctx.write("current.json", current))
    check_equal((plan["verdict"], plan["move"]["steps"]), ("keep", []), "verdict and steps")
    check_equal(plan["layout"]["ranks"], layout["ranks"], "ranks")


def test_doomed_instance_hands_over_its_kv(ctx):
    layout = ctx.plan()["layout"]
    current = {"ranks": [{**r, "kv_bytes_per_cell": 1e7} for r in layout["ranks"]]}
    going = layout["ranks"][0]["instance"].rsplit("-", 1)[0]
    fleet = copy.deepcopy(ctx.fleet)
    one = next(i for i in fleet["instances"] if i["id"] == going)
    # the first of its kind is announced, the others stay
    rest = [{**{k: v for k, v in one.items() if k != "count"}, "id": f"{going}-{n}"} for n in range(one["count"])]
    rest[0]["doomed_at_s"] = 60
    fleet["instances"] = [i for i in fleet["instances"] if i is not one] + rest
    plan = ctx.plan("--current", ctx.write("current.json", current), fleet=fleet)
    check(all(r["instance"] != rest[0]["id"] for r in plan["layout"]["ranks"]), "a rank on the doomed instance")
    kv = [s for s in plan["move"]["steps"] if s["kind"] == "kv"]
    check(kv and all(s["source"] == rest[0]["id"] for s in kv), f"KV comes from {sorted({s['source'] for s in kv})}")
    check_equal(plan["move"]["touched"], 1, "pipelines touched")


def test_model_too_large_exits_2_and_wishes(ctx):
    fleet = {**ctx.fleet, "instances": [{"id": "one", "type": "l40s"}]}
    status, out, err = ctx.run(fleet=fleet)
    check_equal((status, err), (2, []), "status and errors")
    check("fits nowhere" in out and "more instances of" in out, out)
    status, out, _ = ctx.run("--json", fleet=fleet)
    check_equal((status, json.loads(out)["verdict"]), (2, "no_fit"), "status and verdict")
    check(json.loads(out)["wish"]["instances"] >= 4, "the wish is too small for the weights")


def test_budget_bounds_the_search(ctx):
    check(ctx.plan("--budget", "300", "--no-losses")["evaluated"] <= 300, "more than the budget")


def test_shipped_model_is_read(ctx):
    status, out, err = ctx.run(model=cluster.MODEL)
    check_equal((status, err), (0, []), "status and errors")


def test_wrong_fleets_get_one_line(ctx):
    def changed(**fields):
        return {**ctx.fleet, **fields}

    def instance(**fields):
        return changed(instances=[{"id": "a", "type": "h100", **fields}])

    def type_(**fields):
        return changed(types={"h100": {**ctx.fleet["types"]["h100"], **fields}}, instances=[{"id": "a", "type": "h100"}])

    for what, text, fleet in (
        ("not JSON", "fleet.json", b"{"),
        ("empty", "fleet.json", b""),
        ("a list", "no JSON object", b"[]"),
        ("deep", "fleet.json", b"[" * 10000),
        ("no types", "'types'", {"instances": []}),
        ("no instances", "'instances'", {"types": {}}),
        ("instances no list", "'instances'", changed(instances={})),
        ("misspelt field", "zone_usd_gigabyte", changed(zone_usd_gigabyte=1)),
        ("no id", "'id' is missing", changed(instances=[{"type": "h100"}])),
        ("unknown type", "no type is named 'h900'", instance(type="h900")),
        ("same id twice", "two instances have the id 'a'", changed(instances=[{"id": "a", "type": "h100"}] * 2)),
        ("id with a newline", "'id'", instance(id="a\nb")),
        ("long id", "'id'", instance(id="a" * 64)),
        ("negative count", "'count'", instance(count=-1)),
        ("too many", "devices in all", instance(count=65536, devices=2)),
        ("half a device", "'devices'", instance(devices=1.5)),
        ("doomed in the past", "'doomed_at_s'", instance(doomed_at_s=-5)),
        ("link of no width", "'gb_s'", instance(intra={"gb_s": 0})),
        ("text for a number", "'memory_gb'", type_(memory_gb="much")),
        ("no memory", "'memory_gb' is missing", type_(memory_gb=None)),
        ("negative price", "'price_usd_h'", type_(price_usd_h=-1)),
        ("huge number", "fleet.json", b'{"types": {}, "instances": [], "zone_usd_gb": 1e999}'),
    ):
        ctx.refused(what, text, fleet=fleet)


def test_wrong_loads_get_one_line(ctx):
    for what, text, load in (
        ("not JSON", "load.json", b"nonsense"),
        ("no rate", "'arrival_rps' is missing", {k: v for k, v in ctx.load.items() if k != "arrival_rps"}),
        ("negative rate", "'arrival_rps'", {**ctx.load, "arrival_rps": -1}),
        ("no prompt", "'prompt' is missing", {k: v for k, v in ctx.load.items() if k != "prompt"}),
        ("P99 below mean", "mean <= p99", {**ctx.load, "output": {"mean": 100, "p99": 10}}),
        ("misspelt SLO", "tttf_s", {**ctx.load, "slo": {"tttf_s": 1}}),
    ):
        ctx.refused(what, text, load=load)


def test_wrong_current_files_get_one_line(ctx):
    rank = {"instance": "west-h", "device": 0, "pipeline": 0, "groups": [0, GROUPS], "shares": [0, 2]}
    for what, text, ranks in (
        ("unknown instance", "no instance is named 'west-x'", [{**rank, "instance": "west-x"}]),
        ("no such device", "has no device 9", [{**rank, "device": 9}]),
        ("groups beyond the model", "'groups'", [{**rank, "groups": [0, 99]}]),
        ("shares backwards", "'shares'", [{**rank, "shares": [2, 0]}]),
        ("half a share", "'shares'", [{**rank, "shares": [0, 1.5]}]),
        ("twice", "there twice", [rank, rank]),
        ("no list", "'ranks' must be a list", 7),
    ):
        ctx.refused(what, text, "--current", ctx.write("current.json", {"ranks": ranks}))


def test_wrong_models_and_flags_get_one_line(ctx):
    ctx.refused("no such directory", "config.json", model=os.path.join(ctx.dir, "nowhere"))
    bad = os.path.join(ctx.dir, "model")
    os.mkdir(bad)
    config = read("llama-70b/config.json")
    for what, text, change in (
        ("no layers", "num_hidden_layers", {"num_hidden_layers": None}),
        ("zero heads", "num_attention_heads", {"num_attention_heads": 0}),
        ("uneven heads", "evenly", {"num_key_value_heads": 7}),
        ("endless vocabulary", "vocab_size", {"vocab_size": 1 << 40}),
    ):
        ctx.write("model/config.json", {**config, **change})
        ctx.refused(what, text, model=bad)
    ctx.refused("unknown flag", "--nonsense", "--nonsense")


def test_kuhn_munkres_agrees_with_scipy(ctx):
    try:
        import numpy
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise Skip("scipy is not installed")
    library = os.path.join(ctx.dir, "assign.so")
    build = subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-I", ROOT, os.path.join(ROOT, "controller/plan/assign.c"), "-o", library],
        capture_output=True,
        text=True,
    )
    check_equal(build.returncode, 0, f"status of cc ({build.stderr})")
    assign = ctypes.CDLL(library).gw_assign
    assign.restype = ctypes.c_int64
    rng = random.Random(4)
    sizes = [1, 2, 3, 5, 8, 16, 33, 64, 100, 256] * 4
    for n in sizes:
        top = rng.choice([2, 100, 1 << 40])
        value = numpy.array([[rng.randrange(-top, top) for _ in range(n)] for _ in range(n)], dtype=numpy.int64)
        column = (ctypes.c_uint32 * n)()
        ours = assign(value.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint32(n), column)
        check_equal(sorted(column), list(range(n)), f"columns, n = {n}")
        check_equal(ours, sum(int(value[i][column[i]]) for i in range(n)), f"sum of what is assigned, n = {n}")
        rows, columns = linear_sum_assignment(value, maximize=True)
        check_equal(ours, int(value[rows, columns].sum()), f"largest sum, n = {n}")
    note(f"{len(sizes)} matrices")


@contextlib.contextmanager
def setup(args):
    with tempfile.TemporaryDirectory(prefix="godwit-plan-") as directory:
        yield Context(directory, args.variant)


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
