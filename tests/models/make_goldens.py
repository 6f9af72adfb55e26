"""Writes tiny random models of each architecture and what Hugging Face transformers computes with them, and the same for tattler-3m.

Run:      python make_goldens.py tiny              -> ../data/tiny/<name>/
          python make_goldens.py tattler           -> ../data/tattler_golden/   (after training)
          python make_goldens.py verify            recomputes nothing, checks the files against their golden.json
Needs:    the packages of requirements.txt
Takes:    about 30 seconds each on two CPU cores

Every golden is computed in float32 with eager attention from the weights as stored in the file (bf16 and f16 are widened).
golden.json: prompts (ids, nothing added), greedy (the next ids by argmax, end-of-text ids are not obeyed), logits_file,
logit_rows (how many of a prompt's last positions have their logits in the file), min_gap (the smallest distance between the
best and the second best logit met on the greedy paths). The logits file is little-endian float32, [rows][vocab] per prompt, in order.
"""

import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": 32,
        "short_factor": [1.0 + 0.05 * i for i in range(16)], "long_factor": [1.0 + 0.5 * i for i in range(16)]}
LLAMA31 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

# name: KV heads, head_dim, type in the file, tied embeddings, and what differs from the common values; `config` goes into config.json,
# where None takes a field away
TINY = {
    "mha64": dict(kv=8, dim=64, dtype=torch.float32, tied=False),
    "gqa64": dict(kv=2, dim=64, dtype=torch.bfloat16, tied=True, rope_theta=500000.0),
    "mqa64": dict(kv=1, dim=64, dtype=torch.float16, tied=False, rms_norm_eps=1e-6),
    "gqa128": dict(kv=4, dim=128, dtype=torch.bfloat16, tied=False, shards=3),
    "mha128": dict(kv=8, dim=128, dtype=torch.float32, tied=True, layers=2),
    "mqa128": dict(kv=1, dim=128, dtype=torch.bfloat16, tied=False, rope_scaling=LLAMA31, rope_theta=500000.0),
    "linear": dict(kv=2, dim=32, dtype=torch.bfloat16, tied=True, layers=2, rope_scaling={"type": "linear", "factor": 2.5}),
    "dynamic": dict(kv=2, dim=32, dtype=torch.bfloat16, tied=True, layers=2, rope_scaling={"type": "dynamic", "factor": 4.0}),
    "yarn": dict(kv=2, dim=32, dtype=torch.bfloat16, tied=True, layers=2, rope_scaling=YARN, rope_theta=1000000.0),
    # transformers takes the short factors for sequences of up to 32; all these are longer
    "longrope": dict(kv=2, dim=32, dtype=torch.bfloat16, tied=True, layers=2, rope_scaling=LONG, lengths=(33, 60, 150)),
    "qwen2": dict(family="qwen2", kv=2, dim=8, dtype=torch.bfloat16, tied=True, rope_theta=1000000.0, rms_norm_eps=1e-6,
                  config={"use_sliding_window": False, "sliding_window": 32, "max_window_layers": 1, "head_dim": None}),
    # as newer files have it: rope_parameters, layer_types; some layers slide
    "qwen2new": dict(family="qwen2", kv=4, dim=32, dtype=torch.float32, tied=False, layers=2, rms_norm_eps=1e-6,
                     config={"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1,
                             "layer_types": ["sliding_attention", "full_attention"], "rope_theta": None, "rope_scaling": None,
                             "rope_parameters": {**YARN, "rope_theta": 100000.0}}),
    "mistral": dict(family="mistral", kv=2, dim=96, dtype=torch.bfloat16, tied=False, layers=2, config={"sliding_window": 40}),
    "qwen3": dict(family="qwen3", kv=2, dim=64, dtype=torch.bfloat16, tied=True, rope_theta=1000000.0, rms_norm_eps=1e-6,
                  config={"use_sliding_window": False, "sliding_window": None, "max_window_layers": 3}),
    "mixtral": dict(family="mixtral", kv=2, dim=16, dtype=torch.bfloat16, tied=False, layers=2, experts=4, taken=2, ffn=96,
                    rope_theta=1000000.0, config={"sliding_window": None}),
    "qwen3moe": dict(family="qwen3_moe", kv=2, dim=32, dtype=torch.bfloat16, tied=False, layers=2, experts=8, taken=3, ffn=40,
                     rope_theta=1000000.0, rms_norm_eps=1e-6, config={"norm_topk_prob": True}),
    "qwen3moe_raw": dict(family="qwen3_moe", kv=1, dim=32, dtype=torch.float32, tied=False, layers=2, experts=6, taken=4, ffn=32,
                         rope_theta=1000000.0, rms_norm_eps=1e-6,
                         config={"norm_topk_prob": False, "use_sliding_window": True, "sliding_window": 48}),
    # experts in the second of four layers alone: every second one, but not the last
    "qwen3moe_mixed": dict(family="qwen3_moe", kv=2, dim=32, dtype=torch.bfloat16, tied=True, layers=4, experts=6, taken=2, ffn=40,
                           dense={0, 2, 3}, rope_theta=1000000.0, rms_norm_eps=1e-6,
                           config={"norm_topk_prob": True, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    # RoPE by type of layer; two layers without experts, then two with them
    "mellum": dict(family="mellum", kv=2, dim=32, dtype=torch.bfloat16, tied=False, layers=4, experts=6, taken=3, ffn=24, dense={0, 1},
                   rms_norm_eps=1e-6,
                   config={"norm_topk_prob": True, "sliding_window": 40, "rope_theta": None, "rope_scaling": None,
                           "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
                           "mlp_layer_types": ["dense", "dense", "sparse", "sparse"],
                           "rope_parameters": {"full_attention": {**YARN, "rope_theta": 500000.0},
                                               "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}),
}
FAMILIES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "mellum": "MellumForCausalLM",
}
HIDDEN, FFN, VOCAB, HEADS = 64, 192, 384, 8
PROMPT_LENGTHS, LOGIT_ROWS, NEW = (1, 33, 150), (1, 33, 40), 32
# Rounding differs between implementations by about 1e-5 here; a hundred times that keeps greedy paths stable.
MIN_GAP = 1e-3
TINY_GAP = 5e-3  # random weights can simply be drawn again, so ask for more
ROUTER_GAP = 1e-4  # between the last expert taken and the first one not: whoever rounds otherwise must take the same ones


def dump(path, obj, indent=2):
    with open(path, "w") as f:
        json.dump(obj, f, indent=indent)
        f.write("\n")


def tiny_config(m):
    """config.json in the form that released files have (rope_theta and rope_scaling on the top level)."""
    family = m.get("family", "llama")
    more = dict(m.get("config", {}))
    if family == "mixtral":
        more.update(num_local_experts=m["experts"], num_experts_per_tok=m["taken"], router_jitter_noise=0.0)
    if family == "qwen3_moe":
        more.update(num_experts=m["experts"], num_experts_per_tok=m["taken"], moe_intermediate_size=m["ffn"])
        more.setdefault("decoder_sparse_step", 1)
        more.setdefault("mlp_only_layers", [])
    if family == "mellum":
        more.update(num_local_experts=m["experts"], num_experts_per_tok=m["taken"], moe_intermediate_size=m["ffn"])
    if family != "llama":
        more.setdefault("mlp_bias", None)
    # null is a value for these; other fields are left out by it
    kept = {"rope_scaling", "sliding_window"} - ({"rope_scaling"} if "rope_parameters" in more else set())
    base = {
        "architectures": [FAMILIES[family]], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": m["dim"], "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02,
        "intermediate_size": m.get("ffn", FFN) if family == "mixtral" else FFN,
        "max_position_embeddings": 512, "mlp_bias": False, "model_type": family, "num_attention_heads": HEADS,
        "num_hidden_layers": m.get("layers", 3), "num_key_value_heads": m["kv"], "pretraining_tp": 1,
        "rms_norm_eps": m.get("rms_norm_eps", 1e-5), "rope_scaling": m.get("rope_scaling"), "rope_theta": m.get("rope_theta", 10000.0),
        "tie_word_embeddings": m["tied"], "torch_dtype": str(m["dtype"]).split(".")[1], "transformers_version": "4.45.0",
        "use_cache": True, "vocab_size": VOCAB,
    }
    base.update(more)
    return {k: v for k, v in sorted(base.items()) if v is not None or k in kept}


def tiny_ffn(m, layer, prefix, rand):
    """The matrices of one FFN, or of a router and its experts."""
    has_experts = "experts" in m and layer not in m.get("dense", ())
    family, ffn = m.get("family", "llama"), m.get("ffn", FFN) if has_experts else FFN
    if not has_experts:
        names = [(prefix + "mlp.", "gate_proj", "up_proj", "down_proj")]
    elif family == "mixtral":
        names = [(f"{prefix}block_sparse_moe.experts.{e}.", "w1", "w3", "w2") for e in range(m["experts"])]
    else:
        names = [(f"{prefix}mlp.experts.{e}.", "gate_proj", "up_proj", "down_proj") for e in range(m["experts"])]
    w = {}
    for at, gate, up, down in names:
        w[f"{at}{gate}.weight"] = rand(ffn, HIDDEN, 0.15)
        w[f"{at}{up}.weight"] = rand(ffn, HIDDEN, 0.15)
        w[f"{at}{down}.weight"] = rand(HIDDEN, ffn, 0.15)
    if has_experts:
        w[prefix + ("block_sparse_moe" if family == "mixtral" else "mlp") + ".gate.weight"] = rand(m["experts"], HIDDEN, 0.15)
    return w


def tiny_weights(m, seed):
    """Random weights, large enough that attention and logits are far from flat."""
    g = torch.Generator().manual_seed(seed)

    def rand(rows, cols, std):
        return torch.randn(rows, cols, generator=g) * std

    q, kv = HEADS * m["dim"], m["kv"] * m["dim"]
    w = {"model.embed_tokens.weight": rand(VOCAB, HIDDEN, 0.3)}
    for i in range(m.get("layers", 3)):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = 1.0 + 0.2 * torch.randn(HIDDEN, generator=g)
        w[p + "self_attn.q_proj.weight"] = rand(q, HIDDEN, 0.15)
        w[p + "self_attn.k_proj.weight"] = rand(kv, HIDDEN, 0.15)
        w[p + "self_attn.v_proj.weight"] = rand(kv, HIDDEN, 0.15)
        w[p + "self_attn.o_proj.weight"] = rand(HIDDEN, q, 0.1)
        w[p + "post_attention_layernorm.weight"] = 1.0 + 0.2 * torch.randn(HIDDEN, generator=g)
        w.update(tiny_ffn(m, i, p, rand))
        if m.get("family") == "qwen2":
            for name, rows in (("q", q), ("k", kv), ("v", kv)):
                w[p + f"self_attn.{name}_proj.bias"] = 0.4 * torch.randn(rows, generator=g)
        if m.get("family") in ("qwen3", "qwen3_moe", "mellum"):
            for name in ("q", "k"):
                w[p + f"self_attn.{name}_norm.weight"] = 1.2 + 0.3 * torch.randn(m["dim"], generator=g)
    w["model.norm.weight"] = 1.0 + 0.2 * torch.randn(HIDDEN, generator=g)
    if not m["tied"]:
        w["lm_head.weight"] = rand(VOCAB, HIDDEN, 0.2)
    return {k: v.to(m["dtype"]).contiguous() for k, v in w.items()}


def write_weights(path, weights, shards):
    for f in os.listdir(path):
        if "safetensors" in f:
            os.remove(os.path.join(path, f))
    if shards == 1:
        save_file(weights, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
        return
    names, where = list(weights), {}
    for i in range(shards):
        part = names[i * len(names) // shards: (i + 1) * len(names) // shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({n: weights[n] for n in part}, os.path.join(path, file), metadata={"format": "pt"})
        where.update({n: file for n in part})
    total = sum(t.numel() * t.element_size() for t in weights.values())
    dump(os.path.join(path, "model.safetensors.index.json"), {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def check_rope(model, theta, scaling):
    """The frequencies that transformers really uses must be the ones that config.json means."""
    dim = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads
    if scaling and scaling.get("rope_type", scaling.get("type")) != "llama3":  # so do maps of layer types
        return  # worker/rope is compared with transformers by the goldens
    f = 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
    if scaling:
        wave = 2 * torch.pi / f
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        mix = ((scaling["original_max_position_embeddings"] / wave - low) / (high - low)).clamp(0, 1)
        f = (1 - mix) * f / scaling["factor"] + mix * f
    used = model.model.rotary_emb.inv_freq.double()
    assert torch.allclose(used, f, rtol=1e-6, atol=0), (used, f)


def logits_of(model, seq):
    """Logits, and the smallest distance between a router's last choice and what it left."""
    taken = getattr(model.config, "num_experts_per_tok", None)
    if not taken:
        return model(torch.tensor([seq]), use_cache=False).logits[0], float("inf")
    out = model(torch.tensor([seq]), use_cache=False, output_router_logits=True)
    gaps = [torch.topk(r, taken + 1).values for r in out.router_logits]
    return out.logits[0], min((g[:, taken - 1] - g[:, taken]).min().item() for g in gaps)


@torch.no_grad()
def golden(model, prompts, rows, new):
    greedy, kept, gap = [], [], float("inf")
    rooms = []
    for ids, n in zip(prompts, rows):
        seq = list(ids)
        for step in range(new):
            logits, room = logits_of(model, seq)
            rooms.append(room)
            assert torch.isfinite(logits).all()
            if step == 0:
                kept.append(logits[-n:].numpy())
            top = torch.topk(logits[-1], 2)
            gap = min(gap, (top.values[0] - top.values[1]).item())
            seq.append(int(top.indices[0]))
        greedy.append(seq[len(ids):])
    return greedy, kept, gap if min(rooms) > ROUTER_GAP else 0.0


def write_golden(path, prompts, greedy, kept, gap, more):
    np.concatenate([k.reshape(-1) for k in kept]).astype("<f4").tofile(os.path.join(path, "golden_logits.f32"))
    body = {"prompts": prompts, "greedy": greedy, "logits_file": "golden_logits.f32", "logit_rows": [len(k) for k in kept],
            "vocab_size": kept[0].shape[1], "min_gap": gap, "compute": "float32, eager attention", **more}
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in body.items())
    with open(os.path.join(path, "golden.json"), "w") as f:
        f.write("{\n" + lines + "\n}\n")


def make_tiny(name):
    m = TINY[name]
    path = os.path.join(DATA, "tiny", name)
    os.makedirs(path, exist_ok=True)
    dump(os.path.join(path, "config.json"), tiny_config(m))
    for seed in range(1, 100):
        write_weights(path, tiny_weights(m, seed), m.get("shards", 1))
        model = load(path)
        check_rope(model, m.get("rope_theta", 10000.0), m.get("rope_scaling") or m.get("config", {}).get("rope_parameters"))
        r = np.random.default_rng(seed)
        lengths = m.get("lengths", PROMPT_LENGTHS)
        prompts = [r.integers(3, VOCAB, n).tolist() for n in lengths]
        greedy, kept, gap = golden(model, prompts, [min(n, k) for n, k in zip(lengths, LOGIT_ROWS)], NEW)
        if gap > TINY_GAP and min(len(set(g)) for g in greedy) > 8:
            break
    else:
        raise SystemExit(f"{name}: no seed gives a stable greedy path")
    write_golden(path, prompts, greedy, kept, gap, {"seed": seed})
    print(f"{name}: seed {seed}, min_gap {gap:.4f}, logits std {np.concatenate(kept).std():.2f}, rope {model.config.rope_parameters}", flush=True)


def make_tattler():
    src = os.path.join(HERE, "tattler-3m")
    path = os.path.join(DATA, "tattler_golden")
    os.makedirs(path, exist_ok=True)
    tok, model = AutoTokenizer.from_pretrained(src), load(src)
    check_rope(model, 10000.0, None)
    pool = [
        [{"role": "user", "content": "Tell me about godwits."}],
        [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "How can I sleep better?"}],
        [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello! How can I help you today?"}, {"role": "user", "content": "Tell me a story about a fox."}],
        [{"role": "user", "content": "How do I make tomato soup?"}],
        [{"role": "user", "content": "Describe a harbour."}],
        [{"role": "user", "content": "What is the capital of Norway?"}],
        [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am Tattler."}, {"role": "user", "content": "What do you know about whales?"}],
        [{"role": "user", "content": "Name four birds."}],
    ]
    # A trained model has near ties (any of several words may follow); the prompts with the clearest paths are kept.
    found = []
    for chat in pool:
        ids = tok.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        greedy, kept, gap = golden(model, [ids], [4], NEW)
        found.append((gap, ids, greedy[0], kept[0], chat))
    found = sorted(found, key=lambda f: -f[0])[:3]
    assert found[-1][0] > MIN_GAP, [f[0] for f in found]
    texts = [tok.decode(f[2]) for f in found]
    write_golden(path, [f[1] for f in found], [f[2] for f in found], [f[3] for f in found], found[-1][0],
                 {"model": "tests/models/tattler-3m", "messages": [f[4] for f in found], "greedy_text": texts})
    print("\n".join(texts), f"\nmin_gap {found[-1][0]:.4f}")


def verify():
    for name in TINY:
        path = os.path.join(DATA, "tiny", name)
        g = json.load(open(os.path.join(path, "golden.json")))
        logits = np.fromfile(os.path.join(path, g["logits_file"]), "<f4").reshape(-1, VOCAB)
        assert len(logits) == sum(g["logit_rows"]) and g["min_gap"] > MIN_GAP
        ends = np.cumsum(g["logit_rows"]) - 1
        assert [int(logits[e].argmax()) for e in ends] == [x[0] for x in g["greedy"]]
        files = [f for f in os.listdir(path) if f.endswith(".safetensors")]
        types = {str(t.dtype) for f in files for t in load_file(os.path.join(path, f)).values()}
        assert len(types) == 1 and types.pop().split(".")[1] == json.load(open(os.path.join(path, "config.json")))["torch_dtype"]
        print(name, "ok")


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "tiny":
        for name in sys.argv[2:] or TINY:
            make_tiny(name)
    elif what == "tattler":
        make_tattler()
    elif what == "verify":
        verify()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
