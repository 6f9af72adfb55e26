#!/usr/bin/env python3
"""Damaged and lying model files: copies of the shipped model with bytes changed.

Given to the worker, the controller and `godwit up`: each must end with a status that is not zero and say why in one
line, without a crash or a sanitizer report.
"""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import cluster  # noqa: E402
import tap  # noqa: E402
from tap import check, check_equal  # noqa: E402

END_S = 60
LINE_MAX = 600  # bytes of the one clear line
WEIGHTS = "model.safetensors"


class Context:
    """A place for damaged copies, and the means to run programs on them."""

    def __init__(self, directory, variant):
        self.dir, self.variant = directory, variant
        self.key = os.path.join(directory, "key")
        with open(self.key, "w") as f:
            f.write("00" * 32)
        os.chmod(self.key, 0o600)

    def copy(self, damage):
        """A copy of the shipped model to which damage(path of the copy) was done."""
        path = os.path.join(self.dir, "model")
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(cluster.MODEL, path)
        damage(path)
        return path

    def run(self, name, *arguments):
        """Runs a program to its end: (status, lines of its standard error)."""
        env = {**os.environ, **cluster.sanitizer_env(self.dir)}
        done = subprocess.run(
            [cluster.program(name, self.variant), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=END_S,
            env=env,
        )
        return done.returncode, [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]

    def worker(self, model):
        return self.run(
            "godwit-worker",
            "--model",
            model,
            "--controller",
            "127.0.0.1:1",
            "--cluster-key-file",
            self.key,
            "--worker-id",
            "w0",
            "--instance-id",
            "i-0",
        )

    def controller(self, model):
        return self.run(
            "godwit-controller",
            "--model",
            model,
            "--cluster-key-file",
            self.key,
            "--port",
            "0",
            "--admin-listen",
            "127.0.0.1:0",
            "--worker-listen",
            "127.0.0.1:0",
        )

    def up(self, model):
        ports = ("--port", "0", "--admin-port", "0")
        logs = os.path.join(self.dir, "logs")
        return self.run("godwit", "up", "--model", model, "--workers", "2", *ports, "--log-dir", logs)

    def check_refused(self, name, outcome):
        """Ended by itself with a failure, and its last line says why."""
        status, lines = outcome
        reports = cluster.sanitizer_reports(self.dir)
        check(not reports, f"{name}: {reports[0][:3000] if reports else ''}")
        check(0 < status < 99, f"{name}: status {status}; {lines[-3:]}")
        check(lines, f"{name}: it said nothing")
        check(len(lines[-1].encode()) <= LINE_MAX, f"{name}: the line has {len(lines[-1])} characters")
        tap.note(f"{name}: {lines[-1].replace(self.dir, '…')}")


def change(path, name, function):
    """Replaces a file's bytes by function(bytes)."""
    full = os.path.join(path, name)
    with open(full, "rb") as f:
        data = f.read()
    with open(full, "wb") as f:
        f.write(function(data))


def change_json(path, name, function):
    """Lets function change a JSON file's object in place."""

    def edit(data):
        obj = json.loads(data)
        function(obj)
        return json.dumps(obj).encode()

    change(path, name, edit)


def change_header(path, function):
    """Lets function change the header of the weights in place; the length in front is made to fit."""

    def edit(data):
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        function(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    change(path, WEIGHTS, edit)


def first_tensor(header, function):
    """Applies function to one tensor of the header (the first by name)."""
    function(header[sorted(k for k in header if k != "__metadata__")[0]])


def two_overlap(header):
    a, b = [header[k] for k in sorted(header) if k.endswith("q_proj.weight")][:2]
    b["data_offsets"] = a["data_offsets"]


def set_config(**fields):
    return lambda path: change_json(path, "config.json", lambda c: c.update(fields))


def set_tensor(**fields):
    return lambda path: change_header(path, lambda h: first_tensor(h, lambda t: t.update(fields)))


WEIGHT_DAMAGE = {
    "no weights": lambda p: os.remove(os.path.join(p, WEIGHTS)),
    "empty weights": lambda p: change(p, WEIGHTS, lambda d: b""),
    "weights cut in the length": lambda p: change(p, WEIGHTS, lambda d: d[:5]),
    "weights cut in the header": lambda p: change(p, WEIGHTS, lambda d: d[:100]),
    "weights cut in the data": lambda p: change(p, WEIGHTS, lambda d: d[: len(d) // 2]),
    "weights with bytes behind": lambda p: change(p, WEIGHTS, lambda d: d + b"x" * 1000),
    "header length 0": lambda p: change(p, WEIGHTS, lambda d: bytes(8) + d[8:]),
    "header length 2^63": lambda p: change(p, WEIGHTS, lambda d: struct.pack("<Q", 1 << 63) + d[8:]),
    "header length 2^64-1": lambda p: change(p, WEIGHTS, lambda d: b"\xff" * 8 + d[8:]),
    "header is no JSON": lambda p: change(p, WEIGHTS, lambda d: d[:8] + b"\xff" * 64 + d[72:]),
    "header is a depth bomb": lambda p: change(
        p, WEIGHTS, lambda d: struct.pack("<Q", 1 << 20) + b"[" * (1 << 20) + d[8:]
    ),
    "tensor missing": lambda p: change_header(
        p, lambda h: h.pop(next(k for k in sorted(h) if k.endswith("q_proj.weight")))
    ),
    "offsets beyond the file": set_tensor(data_offsets=[0, 1 << 40]),
    "offsets backwards": set_tensor(data_offsets=[4096, 0]),
    "offsets negative": set_tensor(data_offsets=[-4096, 0]),
    "offsets not whole": set_tensor(data_offsets=[0.5, 1.5]),
    "offsets missing": lambda p: change_header(p, lambda h: first_tensor(h, lambda t: t.pop("data_offsets"))),
    "shape lies": set_tensor(shape=[1, 1]),
    "shape overflows": set_tensor(shape=[1 << 40, 1 << 40]),
    "shape negative": set_tensor(shape=[-1, 5]),
    "unknown type": set_tensor(dtype="Q7"),
    "tensors overlap": lambda p: change_header(p, two_overlap),
}
CONFIG_DAMAGE = {
    "no config": lambda p: os.remove(os.path.join(p, "config.json")),
    "config is no JSON": lambda p: change(p, "config.json", lambda d: d[:-20]),
    "config is a depth bomb": lambda p: change(p, "config.json", lambda d: b"[" * 500_000),
    "other architecture": set_config(architectures=["GPT2LMHeadModel"]),
    "hidden size lies": set_config(hidden_size=256),
    "layers lie": set_config(num_hidden_layers=7),
    "layers beyond reason": set_config(num_hidden_layers=1 << 31),
    "no heads": set_config(num_attention_heads=0),
    "heads negative": set_config(num_attention_heads=-8),
    "heads cannot share": set_config(num_key_value_heads=3),
    "vocabulary lies": set_config(vocab_size=4096),
    "vocabulary beyond reason": set_config(vocab_size=1 << 40),
    "epsilon is no number": set_config(rms_norm_eps="small"),
    "unknown RoPE": set_config(rope_scaling={"rope_type": "spiral", "factor": 8.0}),
}
TEXT_DAMAGE = {
    "no tokenizer": lambda p: os.remove(os.path.join(p, "tokenizer.json")),
    "tokenizer cut": lambda p: change(p, "tokenizer.json", lambda d: d[: len(d) // 2]),
    "tokenizer is a depth bomb": lambda p: change(p, "tokenizer.json", lambda d: b"[" * 500_000),
    "other tokenizer": lambda p: change_json(p, "tokenizer.json", lambda t: t["model"].update(type="WordPiece")),
    "merges of nothing": lambda p: change_json(
        p, "tokenizer.json", lambda t: t["model"].update(merges=[["no", "such"]])
    ),
    "ids beyond the vocabulary": lambda p: change_json(
        p, "tokenizer.json", lambda t: t["model"]["vocab"].update({"a": 1 << 40})
    ),
    "added token without id": lambda p: change_json(p, "tokenizer.json", lambda t: t["added_tokens"][0].pop("id")),
    "regex does not compile": lambda p: change_json(
        p, "tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(((")
    ),
    "template does not parse": lambda p: change_json(
        p, "tokenizer_config.json", lambda t: t.update(chat_template="{% for x in %}")
    ),
}


def test_worker_refuses_damaged_weights(ctx):
    for name, damage in WEIGHT_DAMAGE.items():
        ctx.check_refused(name, ctx.worker(ctx.copy(damage)))


def test_worker_refuses_wrong_configs(ctx):
    for name, damage in CONFIG_DAMAGE.items():
        ctx.check_refused(name, ctx.worker(ctx.copy(damage)))


def test_controller_refuses_damaged_text_files(ctx):
    for name, damage in TEXT_DAMAGE.items():
        ctx.check_refused(name, ctx.controller(ctx.copy(damage)))


def test_up_says_why_in_one_line(ctx):
    for name in ("weights cut in the data", "config is no JSON", "tokenizer cut"):
        damage = {**WEIGHT_DAMAGE, **CONFIG_DAMAGE, **TEXT_DAMAGE}[name]
        status, lines = ctx.up(ctx.copy(damage))
        ctx.check_refused(f"up: {name}", (status, lines))
        check_equal(len(lines), 1, f"{name}: lines of `up`: {lines}; their number")


def test_missing_model_is_one_line(ctx):
    for run in (ctx.worker, ctx.controller, ctx.up):
        ctx.check_refused(run.__name__, run(os.path.join(ctx.dir, "nowhere")))


@contextlib.contextmanager
def setup(args):
    cluster.program("godwit", args.variant)
    with tempfile.TemporaryDirectory(prefix="godwit-test-") as directory:
        yield Context(directory, args.variant)


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
