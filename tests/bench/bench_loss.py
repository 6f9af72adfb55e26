#!/usr/bin/env python3
"""What int8 weights and int8 KV lose, beside llama.cpp's q8_0 of the same weights: the error of logits, and perplexity.

    tests/bench/bench_loss.py build/llama-1b            # `make bench-peers` prepares what this needs, then runs it

Two models: the shipped one on text that it was not trained on (tests/data/loss/text.txt), and the 1B shape of random weights on
random tokens. Each engine's rows of logits are held against those of the same engine with bf16 weights, so that an error is the format's
own; how far the two engines' bf16 logits are from each other is printed, too: below that an error means nothing. No time is measured.

Prints `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=<u>`; less is better:
    error       |row - bf16 row| / |bf16 row - its mean|, the root of the mean square over all rows
    divergence  Kullback-Leibler's, of the distributions that the two rows stand for, mean over rows, nats
    perplexity  of the shipped model; what is added to that of bf16, percent
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import gguf_of_model
import numpy as np
import peer_llama
import report

GODWIT = os.path.join(os.environ.get("GODWIT_BUILD") or os.path.join(report.ROOT, "build"), "release/tests/bench/peer_logits")
SHIPPED = os.path.join(report.ROOT, "tests/models/tattler-3m")
TEXT = os.path.join(report.ROOT, "tests/data/loss/text.txt")
DOCUMENT_MAX = 1024  # tokens that both sides take at once
RANDOM_DOCUMENTS, RANDOM_LENGTH = 2, 64
PLAIN = "cpu-bf16dot-2"
FORMATS = {"int8": "cpu-bf16-int8-1", "kv8": "cpu-bf16-kv8-1", "int8_kv8": "cpu-bf16-int8-kv8-1"}


class Rows:
    """Logits of all rows of all documents, [rows, vocab]."""

    def __init__(self, logits, documents):
        self.logits = logits.astype(np.float64)
        self.documents = documents

    def log_probabilities(self):
        x = self.logits - self.logits.max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    def error(self, plain):
        spread = plain.logits - plain.logits.mean(axis=1, keepdims=True)
        each = ((self.logits - plain.logits) ** 2).sum(axis=1) / (spread**2).sum(axis=1)
        return float(np.sqrt(each.mean()))

    def divergence(self, plain):
        p, q = plain.log_probabilities(), self.log_probabilities()
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())

    def perplexity(self):
        losses, first = [], 0
        log_p = self.log_probabilities()
        for ids in self.documents:
            losses += [-log_p[first + i, ids[i + 1]] for i in range(len(ids) - 1)]
            first += len(ids)
        return float(np.exp(np.mean(losses)))


def ours(model, profile, documents, vocab):
    lines = "".join(" ".join(map(str, ids)) + "\n" for ids in documents)
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([GODWIT, model, profile, out.name], input=lines, text=True, check=True)
        return Rows(np.fromfile(out.name, "<f4").reshape(-1, vocab), documents)


def theirs(gguf, documents, threads):
    model = peer_llama.Model(gguf)
    return Rows(np.concatenate([model.logits(ids, threads) for ids in documents]), documents)


def text_documents():
    lines = subprocess.run([GODWIT, SHIPPED, "ids", TEXT], capture_output=True, text=True, check=True).stdout
    return [[int(i) for i in line.split()][:DOCUMENT_MAX] for line in lines.splitlines()]


def random_documents(vocab):
    return [[peer_llama.prompt_token(0, s, k, vocab) for k in range(RANDOM_LENGTH)] for s in range(RANDOM_DOCUMENTS)]


def line(name, figure, our, ref, unit):
    print(report.bench_line(f"loss_{name}_{figure}", our, ref, unit), flush=True)


def compare(name, model, ggufs, documents, vocab, threads, trained):
    plain, ref_plain = ours(model, PLAIN, documents, vocab), theirs(ggufs["bf16"], documents, threads)
    ref = theirs(ggufs["q8_0"], documents, threads)
    print(f"# {name}: {len(plain.logits)} rows; bf16 of the two engines differ by {plain.error(ref_plain):.2e}", flush=True)
    for format_name, profile in FORMATS.items():
        rows = ours(model, profile, documents, vocab)
        line(f"{name}_{format_name}", "error", rows.error(plain), ref.error(ref_plain), "relative")
        line(f"{name}_{format_name}", "divergence", rows.divergence(plain), ref.divergence(ref_plain), "nats")
        if trained:
            before, ref_before = plain.perplexity(), ref_plain.perplexity()
            added = 100 * (rows.perplexity() / before - 1)
            ref_added = 100 * (ref.perplexity() / ref_before - 1)
            print(f"# {name}_{format_name}: perplexity {before:.5f} and {added:+.4f}%; q8_0: {ref_before:.5f} and {ref_added:+.4f}%")


def vocab_of(model):
    with open(os.path.join(model, "config.json")) as f:
        return json.load(f)["vocab_size"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", help="of random weights, with bf16.gguf and q8_0.gguf in it")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    print(report.setting())
    peer_llama.start()
    with tempfile.TemporaryDirectory() as directory:
        ggufs = {name: os.path.join(directory, name) for name in ("bf16", "q8_0")}
        gguf_of_model.write(SHIPPED, ggufs["bf16"])
        peer_llama.quantize(ggufs["bf16"], ggufs["q8_0"])
        compare("shipped", SHIPPED, ggufs, text_documents(), vocab_of(SHIPPED), args.threads, True)
    ggufs = {name: os.path.join(args.model, name + ".gguf") for name in ("bf16", "q8_0")}
    vocab = vocab_of(args.model)
    compare("1b", args.model, ggufs, random_documents(vocab), vocab, args.threads, False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
