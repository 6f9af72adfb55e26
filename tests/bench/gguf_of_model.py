#!/usr/bin/env python3
"""Writes what tests/bench/make_model.py made as GGUF, for llama.cpp: the same bf16 weights, the vocabulary of byte_vocab.py.

    tests/bench/gguf_of_model.py build/llama-1b build/llama-1b/bf16.gguf

Rows of q and k are put into the order that llama.cpp's RoPE wants (pairs side by side, where Hugging Face has halves): so
both compute the same function. Wants numpy and gguf (`make bench-peers` has them in a venv).
"""

import argparse
import json
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import byte_vocab  # noqa: E402
import gguf  # noqa: E402
import numpy as np  # noqa: E402

HEADER_MAX = 100 << 20
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def tensors(path):
    """(name, uint16 array) of each tensor, mapped."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        if length > HEADER_MAX:
            raise ValueError(f"{path}: a header of {length} bytes")
        header = json.loads(f.read(length))
    header.pop("__metadata__", None)
    for name, t in header.items():
        first, last = t["data_offsets"]
        if t["dtype"] != "BF16":
            raise ValueError(f"{path}: {name} is {t['dtype']}; this tool takes bf16")
        data = np.memmap(path, dtype="<u2", mode="r", offset=8 + length + first, shape=((last - first) // 2,))
        yield name, data.reshape(t["shape"])


def pairs_of_halves(rows, heads):
    """[heads · head_dim, columns] with RoPE's pairs (i, i + head_dim / 2) beside each other."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)


def add_config(out, c):
    out.add_vocab_size(c["vocab_size"])
    out.add_context_length(c["max_position_embeddings"])
    out.add_embedding_length(c["hidden_size"])
    out.add_block_count(c["num_hidden_layers"])
    out.add_feed_forward_length(c["intermediate_size"])
    out.add_head_count(c["num_attention_heads"])
    out.add_head_count_kv(c["num_key_value_heads"])
    out.add_key_length(c["head_dim"])
    out.add_value_length(c["head_dim"])
    out.add_rope_dimension_count(c["head_dim"])
    out.add_rope_freq_base(c["rope_theta"])
    out.add_layer_norm_rms_eps(c["rms_norm_eps"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def add_vocabulary(out, size):
    end = size - 1
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(byte_vocab.vocabulary(size))
    out.add_token_types([gguf.TokenType.NORMAL] * end + [gguf.TokenType.CONTROL])
    out.add_token_merges([" ".join(byte_vocab.MERGE)])
    out.add_bos_token_id(end)
    out.add_eos_token_id(end)
    out.add_add_bos_token(False)


def add_tensor(out, name, data, c):
    if data.ndim == 1:
        out.add_tensor(gguf_name(name), (data.astype("<u4") << 16).view("<f4"))
        return
    if ".q_proj." in name:
        data = pairs_of_halves(data, c["num_attention_heads"])
    elif ".k_proj." in name:
        data = pairs_of_halves(data, c["num_key_value_heads"])
    bf16 = gguf.GGMLQuantizationType.BF16
    out.add_tensor(gguf_name(name), np.ascontiguousarray(data).view(np.uint8), raw_dtype=bf16)


def write(directory, path):
    with open(os.path.join(directory, "config.json")) as f:
        c = json.load(f)
    if c["architectures"] != ["LlamaForCausalLM"]:
        raise ValueError(f"{directory}: this tool takes LlamaForCausalLM, not {c['architectures']}")
    out = gguf.GGUFWriter(path + ".part", "llama")
    add_config(out, c)
    add_vocabulary(out, c["vocab_size"])
    for name, data in tensors(os.path.join(directory, "model.safetensors")):
        add_tensor(out, name, data, c)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    os.replace(path + ".part", path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("out")
    args = ap.parse_args()
    write(args.model, args.out)
    print(f"{args.out}: {os.path.getsize(args.out) / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
