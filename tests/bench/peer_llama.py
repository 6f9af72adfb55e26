#!/usr/bin/env python3
"""One side of a comparison of engines (bench_peers.py): llama.cpp, in this process, told what to run by the lines of
tests/bench/peer_godwit.c and answering as that does; there is no `probe` here.

    tests/bench/peer_llama.py MODEL.gguf
    tests/bench/peer_llama.py BF16.gguf --quantize Q8_0.gguf

All parameters are llama.cpp's own defaults (flash attention, KV cache, mmap); what is set is sizes and threads. The clock
runs inside llama_decode alone: filling batches and choosing tokens, which here is Python's, is not counted against it.
Wants llama-cpp-python (`make bench-peers`).
"""

import argparse
import ctypes
import importlib.metadata
import os
import sys
import time

import llama_cpp as lc
import numpy as np

BATCH = 512  # tokens of one llama_decode
LONE_CONTEXT = 1024  # KV positions of a sequence that is alone
CONTEXT = 256  # and of each of several


def prompt_token(salt, sequence, k, vocab):
    return (salt * 7919 + sequence * 104729 + k * 15485863) % vocab


class Model:
    def __init__(self, path):
        params = lc.llama_model_default_params()
        with open("/proc/cpuinfo") as f:
            params.use_extra_bufts = "amx_int8" not in f.read()  # 0.3.36 ends by SIGSEGV where it puts q8_0 on tiles
        self.model = lc.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self.model))
        self.batch = lc.llama_batch_init(BATCH, 0, 1)
        self.contexts = {}

    def context(self, sequences, threads):
        """One for each number of sequences, made when first asked for."""
        if sequences not in self.contexts:
            p = lc.llama_context_default_params()
            p.n_seq_max = sequences
            p.n_ctx = LONE_CONTEXT if sequences == 1 else CONTEXT * sequences
            p.n_batch = p.n_ubatch = BATCH
            p.n_threads = p.n_threads_batch = threads
            self.contexts[sequences] = lc.llama_init_from_model(self.model, p)
            if not self.contexts[sequences]:
                raise RuntimeError(f"llama.cpp makes no context of {sequences} sequences")
        lc.llama_set_n_threads(self.contexts[sequences], threads, threads)
        return self.contexts[sequences]

    def decode(self, context, rows):
        """Runs rows of (token, position, sequence, whether its logits are wanted); returns the seconds that it took."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.logits[i] = token, position, wanted
            b.n_seq_id[i], b.seq_id[i][0] = 1, sequence
        start_s = time.perf_counter()
        status = lc.llama_decode(context, b)
        lc.llama_synchronize(context)
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")
        return time.perf_counter() - start_s

    def row(self, context, row):
        """The logits of that row of the batch; valid until the next one is decoded."""
        return np.ctypeslib.as_array(lc.llama_get_logits_ith(context, row), shape=(self.vocab,))

    def best(self, context, row):
        return int(np.argmax(self.row(context, row)))

    def logits(self, ids, threads):
        """[len(ids), vocab]: of every row of a text of LONE_CONTEXT tokens at most."""
        context = self.context(1, threads)
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        rows = []
        for at in range(0, len(ids), BATCH):
            part = [(token, at + i, 0, True) for i, token in enumerate(ids[at : at + BATCH])]
            self.decode(context, part)
            rows += [self.row(context, i).copy() for i in range(len(part))]
        return np.array(rows)

    def prefill(self, context, sequences, prompt, salt):
        """Seconds, and each sequence's first token."""
        rows = [
            (prompt_token(salt, s, k, self.vocab), k, s, k == prompt - 1)
            for s in range(sequences)
            for k in range(prompt)
        ]
        seconds, first = 0.0, [0] * sequences
        for at in range(0, len(rows), BATCH):
            part = rows[at : at + BATCH]
            seconds += self.decode(context, part)
            for i, (_, _, sequence, wanted) in enumerate(part):
                if wanted:
                    first[sequence] = self.best(context, i)
        return seconds, first

    def run(self, threads, sequences, prompt, tokens, salt):
        context = self.context(sequences, threads)
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        seconds, first = self.prefill(context, sequences, prompt, salt)
        if tokens == 1:
            return seconds, first
        seconds, last = 0.0, first
        for t in range(tokens - 1):
            seconds += self.decode(context, [(last[s], prompt + t, s, True) for s in range(sequences)])
            last = [self.best(context, s) for s in range(sequences)]
        return seconds, first


def quantize(path, out):
    params = lc.llama_model_quantize_default_params()
    params.ftype = lc.LLAMA_FTYPE_MOSTLY_Q8_0
    if lc.llama_model_quantize(path.encode(), (out + ".part").encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp does not quantize {path}")
    os.replace(out + ".part", out)


@lc.llama_log_callback
def _silence(level, text, arg):
    pass


def start(log=False):
    """Once, before anything else."""
    if not log:
        lc.llama_log_set(_silence, None)
    lc.llama_backend_init()


def serve(path):
    model = Model(path)
    print(f"ready llama.cpp of llama-cpp-python-{importlib.metadata.version('llama-cpp-python')}", flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        if verb != "run" or len(numbers) != 5:
            raise ValueError(f"a line that is not `run`: {line.strip()}")
        seconds, first = model.run(*map(int, numbers))
        print(f"done {seconds:.6f}", *first, flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--quantize", metavar="OUT", help="only write this file: the model in q8_0")
    ap.add_argument("--log", action="store_true", help="with llama.cpp's own log")
    args = ap.parse_args()
    start(args.log)
    if args.quantize:
        quantize(args.model, args.quantize)
    else:
        serve(args.model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
