#!/usr/bin/env python3
"""Makes a model of a real shape with random bf16 weights, for benchmarks: config.json, model.safetensors, tokenizer.json.

    tests/bench/make_model.py llama-1b /tmp/llama-1b

Weights are uniform in ±2 / sqrt(columns), so that activations neither die out nor overflow. The same shape and seed give the
same bytes. The tokenizer makes a token of each byte (byte_vocab.py).
"""

import argparse
import json
import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import byte_vocab  # noqa: E402

SHAPES = {
    # layers, hidden, ffn, heads, kv_heads, head_dim, vocab, tied
    "llama-1b": (16, 2048, 8192, 32, 8, 64, 128256, True),
    "llama-3b": (28, 3072, 8192, 24, 8, 128, 128256, True),
    "llama-8b": (32, 4096, 14336, 32, 8, 128, 128256, False),
    "small-160m": (12, 768, 2048, 12, 4, 64, 32000, True),
    "tiny-15m": (6, 288, 768, 6, 6, 48, 32000, True),
}
CHUNK_ROWS = 4096


def tensors(shape):
    """(name, rows, columns) of every tensor; rows 0: a norm's vector."""
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab, tied = shape
    yield "model.embed_tokens.weight", vocab, hidden
    yield "model.norm.weight", 0, hidden
    if not tied:
        yield "lm_head.weight", vocab, hidden
    for i in range(layers):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", 0, hidden
        yield at + "post_attention_layernorm.weight", 0, hidden
        yield at + "self_attn.q_proj.weight", heads * head_dim, hidden
        yield at + "self_attn.k_proj.weight", kv_heads * head_dim, hidden
        yield at + "self_attn.v_proj.weight", kv_heads * head_dim, hidden
        yield at + "self_attn.o_proj.weight", hidden, heads * head_dim
        yield at + "mlp.gate_proj.weight", ffn, hidden
        yield at + "mlp.up_proj.weight", ffn, hidden
        yield at + "mlp.down_proj.weight", hidden, ffn


def config(shape):
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab, tied = shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def header(shape):
    entries, at = {}, 0
    for name, rows, columns in tensors(shape):
        size = 2 * max(rows, 1) * columns
        dims = [rows, columns] if rows else [columns]
        entries[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % 8)


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def write(out, shape, seed):
    rng = np.random.default_rng(seed)
    head = header(shape)
    out.write(struct.pack("<Q", len(head)) + head)
    for _, rows, columns in tensors(shape):
        if rows == 0:
            out.write(bf16(np.ones(columns)))
        for first in range(0, rows, CHUNK_ROWS):
            block = rng.random((min(CHUNK_ROWS, rows - first), columns), dtype=np.float32)
            out.write(bf16((block - 0.5) * (4 / columns**0.5)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("shape", choices=sorted(SHAPES))
    ap.add_argument("directory")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    os.makedirs(args.directory, exist_ok=True)
    with open(os.path.join(args.directory, "config.json"), "w") as f:
        json.dump(config(SHAPES[args.shape]), f, indent=2)
    with open(os.path.join(args.directory, "tokenizer.json"), "w") as f:
        json.dump(byte_vocab.tokenizer_json(config(SHAPES[args.shape])["vocab_size"]), f)
    path = os.path.join(args.directory, "model.safetensors")
    with open(path + ".part", "wb") as f:
        write(f, SHAPES[args.shape], args.seed)
    os.replace(path + ".part", path)
    print(f"{args.directory}: {args.shape}, {os.path.getsize(path) / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
