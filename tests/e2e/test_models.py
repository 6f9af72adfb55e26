#!/usr/bin/env python3
"""Churn for every architecture: tiny models of random weights, with a tokenizer cut from the shipped one.

For each, streams run on workers that hold the whole model; then the same under a seeded schedule of killed, reclaimed
and frozen workers, and once on a pipeline of three ranks of unequal width. Every stream must be identical with its
undisturbed run. Texts are longer than every window here, so that pages behind it are given back while streams move.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import churn  # noqa: E402
import cluster  # noqa: E402
import load  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from cluster import Cluster, variant_of  # noqa: E402
from tap import check, check_equal  # noqa: E402

TINY = os.path.join(cluster.ROOT, "tests", "data", "tiny")
VOCAB = 384  # of the tiny models
WORKERS = 3
STREAMS, TOKENS = 24, 160
DRAIN_S = 120.0
SIDE_BY_SIDE = 2  # tests: the cluster of one waits for the next blow while that of another computes
SETTLE_S = 30.0  # for a layout to serve, on a slow machine


def cut_tokenizer(directory):
    """The shipped tokenizer's first tokens and all special ones, with ids below VOCAB."""

    def read(name):
        with open(os.path.join(cluster.MODEL, name)) as f:
            return json.load(f)

    def write(name, obj):
        with open(os.path.join(directory, name), "w") as f:
            json.dump(obj, f)

    tokenizer, config, generation = map(read, ("tokenizer.json", "tokenizer_config.json", "generation_config.json"))
    added = tokenizer["added_tokens"]
    first = VOCAB - len(added)
    new_id = {token["id"]: first + i for i, token in enumerate(added)}
    for token in added:
        token["id"] = new_id[token["id"]]
    model = tokenizer["model"]
    model["vocab"] = {text: i for text, i in model["vocab"].items() if i < first}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    for processor in tokenizer["post_processor"]["processors"]:
        for special in processor.get("special_tokens", {}).values():
            special["ids"] = [new_id[i] for i in special["ids"]]
    config["added_tokens_decoder"] = {str(new_id[int(i)]): token for i, token in config["added_tokens_decoder"].items()}
    generation["bos_token_id"] = new_id[generation["bos_token_id"]]
    generation["eos_token_id"] = [new_id[i] for i in generation["eos_token_id"]]
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", config)
    write("generation_config.json", generation)


class Models:
    """Tiny models as directories that a cluster can serve; they bear the shipped model's name, as the requests do."""

    def __init__(self, directory, args):
        self.dir, self.args = directory, args

    def make(self, name):
        path = os.path.join(self.dir, name, os.path.basename(cluster.MODEL))
        shutil.copytree(os.path.join(TINY, name), path, ignore=shutil.ignore_patterns("golden*"))
        cut_tokenizer(path)
        return path


def serves(up, epoch):
    """Does the plan of that epoch serve, all of it and nothing else?"""
    now = up.admin("/admin/layout")
    states = {p["state"] for p in now["pipelines"]}
    return now["epoch"] >= epoch and states == {"serving"} and not now["plan"]["under_way"]


def judge(work, references, args, what):
    verdict = work.judge(references)
    tap.note(f"{what}: {verdict.requests} streams, {verdict.tokens} tokens, seed {args.seed}")
    check(verdict.good(), f"{what}: {verdict}")


def on_three_ranks(up, requests, references, args):
    """The same list on ranks of 3, 3 and 2 shares."""
    epoch = up.admin("/admin/layout", {"layout": "tp3"})["epoch"]
    up.wait(lambda: serves(up, epoch), SETTLE_S, "three ranks serve")
    check_equal([len(p["ranks"]) for p in up.admin("/admin/layout")["pipelines"]], [WORKERS], "ranks of the pipelines")
    work = load.Load(up.http, requests, len(requests)).start(len(requests))
    work.finish(DRAIN_S)
    judge(work, references, args, "three ranks")


def under_churn(up, requests, references, args):
    work = load.Load(up.http, requests, len(requests)).start()
    hand = churn.WorkerChurn(up)
    churn.carry_out(churn.schedule(args.seed, args.seconds, churn.WORKER_ACTIONS), hand)
    work.finish(DRAIN_S)
    judge(work, references, args, " · ".join(hand.done))
    check(any(e["kind"] == "request_moved" for e in up.events.list), "no request was moved")
    check(not any(e["kind"] == "diverged" for e in up.events.list), "a worker's tokens differed from the log")


def serve(models, name):
    args = models.args
    requests = workload.stories(STREAMS, args.seed, TOKENS)
    with Cluster(
        variant=variant_of(args.variant, "mixed"),
        workers=WORKERS,
        model=models.make(name),
        replace_after_s=1.0,
        term_grace_s=3,
        extra=["--layout", "replicas"],
    ) as up:
        references = load.run_once(up.http, requests, len(requests), DRAIN_S)
        check_equal({s.tokens() for s in references.values()}, {TOKENS}, "tokens of the undisturbed streams")
        under_churn(up, requests, references, args)
        up.wait_workers(WORKERS, 60)
        on_three_ranks(up, requests, references, args)


def test_mistral_survives_churn(models):
    serve(models, "mistral")


def test_qwen2_survives_churn(models):
    serve(models, "qwen2")


def test_qwen3_survives_churn(models):
    serve(models, "qwen3")


def test_mixtral_survives_churn(models):
    serve(models, "mixtral")


def test_qwen3_moe_survives_churn(models):
    serve(models, "qwen3moe")


def test_mellum_survives_churn(models):
    serve(models, "mellum")


def arguments(ap):
    ap.add_argument("--seed", type=int, default=1, help="of schedule and requests")
    ap.add_argument("--seconds", type=int, default=6, help="of churn for each model")


@contextlib.contextmanager
def setup(args):
    with tempfile.TemporaryDirectory(prefix="godwit-test-") as directory:
        yield Models(directory, args)


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, arguments, setup, SIDE_BY_SIDE))
