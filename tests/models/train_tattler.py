"""Trains tattler-3m, the small chat model that the tests and the quick start use, and writes it as a Hugging Face directory.

Run:      python train_tattler.py --out tattler-3m [--minutes 25] [--threads 2] [--seed 1]
Needs:    the packages of requirements.txt (torch, transformers, tokenizers, safetensors, numpy)
Takes:    the minutes that are asked for, plus about one; under 40 minutes on two CPU cores with the default

The tokenizer is made first, and kept if the directory has one already: text goldens depend on it. A snapshot of the whole
directory is written after three minutes and then every five. The corpus (corpus.py) depends on the seed alone; the number
of steps depends on the machine's speed, so the weights differ from machine to machine.

--check DIR loads a directory, answers a few prompts greedily and at temperature 0.7, and trains nothing.
"""

import argparse
import json
import math
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: E402

from corpus import documents  # noqa: E402

VOCAB = 2048
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOT_TEXT, HEAD, HEAD_END, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIALS = [BOS, EOT_TEXT, HEAD, HEAD_END, EOT] + [f"<|reserved_special_token_{i}|>" for i in range(3)]
CHAT_TEMPLATE = (
    "{% set turns = messages %}"
    "{% for message in turns %}"
    "{% set text = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}"
    "{{ text }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

CHECKS = [
    "Hello!", "Who are you?", "what can you tell me about godwits", "Tell me a long story about a fox named Lily.", "How do I make tomato soup?",
    "What is the capital of Norway?", "What is 3 plus 4?", "I am sad today.", "What is quantum mechanics?", "Tell me a story about a lighthouse keeper.",
    "Name four birds.", "How can I sleep better?", "Describe a harbour.", "do you like winter", "What is your favourite colour?", "Write a poem about the sea.",
]


def make_tokenizer(path, seed):
    """Byte-level BPE, put together as Llama 3's tokenizer.json is; ids of the special tokens come last, as there."""
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    texts = ("\n".join(t for _, t in doc) for _, doc in zip(range(30000), documents(seed + 1000)))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(SPECIALS), special_tokens=[], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tok.train_from_iterator(texts, trainer)
    tok.add_special_tokens(SPECIALS)
    assert tok.get_vocab_size() == VOCAB, tok.get_vocab_size()
    bos = tok.token_to_id(BOS)
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, bos)]),
    ])
    tok.save(os.path.join(path, "tokenizer.json"))


def dump(path, name, obj):
    with open(os.path.join(path, name), "w") as f:
        json.dump(obj, f, indent=2)
        f.write("\n")


def write_plain_files(path, tok):
    """Everything but weights, tokenizer.json and the card, in the form that released Llama 3 directories have."""
    ids = {s: tok.token_to_id(s) for s in SPECIALS}
    dump(path, "config.json", {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": ids[BOS],
        "eos_token_id": [ids[EOT_TEXT], ids[EOT]], "head_dim": 32, "hidden_act": "silu", "hidden_size": 192, "initializer_range": 0.05,
        "intermediate_size": 512, "max_position_embeddings": 2048, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 8,
        "num_hidden_layers": 6, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.45.0", "use_cache": True, "vocab_size": VOCAB,
    })
    dump(path, "generation_config.json", {
        "_from_model_config": True, "bos_token_id": ids[BOS], "do_sample": True, "eos_token_id": [ids[EOT_TEXT], ids[EOT]],
        "temperature": 0.7, "top_p": 0.9, "transformers_version": "4.45.0",
    })
    dump(path, "tokenizer_config.json", {
        "added_tokens_decoder": {str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                                 for s, i in ids.items()},
        "bos_token": BOS, "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": EOT,
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 2048, "tokenizer_class": "PreTrainedTokenizerFast",
    })
    dump(path, "special_tokens_map.json", {
        "bos_token": {"content": BOS, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
        "eos_token": {"content": EOT, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
    })


def save_weights(path, model):
    """bf16 model.safetensors, written beside the old one and then renamed, so that a reader never sees half a file."""
    from safetensors.torch import save_file

    state = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    tmp = os.path.join(path, "model.safetensors.tmp")
    save_file(state, tmp, metadata={"format": "pt"})
    os.chmod(tmp, 0o644)
    os.replace(tmp, os.path.join(path, "model.safetensors"))


class Feed:
    """Packs documents into rows of ids, with a weight for each id as a target."""

    def __init__(self, tok, seed):
        self.tok, self.docs = tok, documents(seed)
        self.id = {s: tok.token_to_id(s) for s in SPECIALS}
        self.role = {r: tok.encode(r, add_special_tokens=False).ids for r in ("system", "user", "assistant")}
        self.nl = tok.encode("\n\n", add_special_tokens=False).ids
        self.ids, self.weights = [], []

    def fill(self):
        batch = [d for _, d in zip(range(1000), self.docs)]
        enc = iter(self.tok.encode_batch([t for d in batch for _, t in d], add_special_tokens=False))
        for doc in batch:
            self.put([self.id[BOS]], 0.1)
            for role, _ in doc:
                body = next(enc).ids
                if role == "text":
                    self.put(body, 1.0)
                    continue
                self.put([self.id[HEAD]] + self.role[role] + [self.id[HEAD_END]] + self.nl, 0.1)
                self.put(body + [self.id[EOT]], 1.0 if role == "assistant" else 0.2)
            if doc[0][0] == "text" or len(body) % 4 == 0:
                self.put([self.id[EOT_TEXT]], 1.0 if doc[0][0] == "text" else 0.1)

    def put(self, ids, weight):
        self.ids += ids
        self.weights += [weight] * len(ids)

    def rows(self, n, length):
        need = n * length + 1
        while len(self.ids) < need:
            self.fill()
        ids, w = np.array(self.ids[:need]), np.array(self.weights[:need], dtype=np.float32)
        del self.ids[: need - 1], self.weights[: need - 1]
        x = torch.from_numpy(ids[:-1].reshape(n, length))
        y = torch.from_numpy(ids[1:].reshape(n, length))
        return x, y, torch.from_numpy(w[1:].reshape(n, length))


def weighted_loss(model, x, y, w):
    """(loss to train on, mean loss of the assistant's tokens and of prose)."""
    logits = model(input_ids=x, use_cache=False).logits
    each = torch.nn.functional.cross_entropy(logits.view(-1, VOCAB), y.reshape(-1), reduction="none")
    w = w.reshape(-1)
    said = w == 1.0
    return (each * w).sum() / w.sum(), (each.detach() * said).sum().item() / max(1, said.sum().item())


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    if not os.path.exists(os.path.join(args.out, "tokenizer.json")):
        make_tokenizer(args.out, args.seed)
    tok = Tokenizer.from_file(os.path.join(args.out, "tokenizer.json"))
    write_plain_files(args.out, tok)
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(args.out, attn_implementation="sdpa")).float()
    model.tie_weights()
    params = [p for p in model.parameters()]
    print(f"parameters {sum(p.numel() for p in params)}", flush=True)
    opt = torch.optim.AdamW(
        [{"params": [p for p in params if p.dim() == 2], "weight_decay": 0.05}, {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}],
        lr=args.lr, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if args.compile else model
    feed = Feed(tok, args.seed)
    start, total_s = time.monotonic(), args.minutes * 60.0
    next_save, step, tokens, smooth = 180.0, 0, 0, None
    while True:
        spent = time.monotonic() - start
        if spent >= total_s:
            break
        frac = spent / total_s
        lr = args.lr * (min(1.0, (step + 1) / 100) if frac < 0.1 else 1.0) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * frac)))
        for g in opt.param_groups:
            g["lr"] = lr
        long_row = step % 8 == 7
        x, y, w = feed.rows(args.rows // 2, 1024) if long_row else feed.rows(args.rows, 512)
        loss, said = weighted_loss(run, x, y, w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        tokens += x.numel()
        smooth = said if smooth is None else 0.98 * smooth + 0.02 * said
        if step % 20 == 0 or step == 1:
            print(f"{time.monotonic() - start:7.1f} s  step {step:5d}  tokens {tokens / 1e6:6.2f} M  loss {smooth:.4f}  lr {lr:.5f}", flush=True)
        if time.monotonic() - start > next_save:
            save_weights(args.out, model)
            next_save += 300.0
    save_weights(args.out, model)
    print(f"done: {step} steps, {tokens} tokens, loss {smooth:.4f}, {time.monotonic() - start:.0f} s", flush=True)


def check(path):
    """Prints answers of the saved bf16 weights (computed in f32)."""
    torch.set_num_threads(2)
    tok = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    chats = [[{"role": "user", "content": q}] for q in CHECKS]
    chats.append([{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "My name is Clara."},
                  {"role": "assistant", "content": "Nice to meet you, Clara! How can I help you?"}, {"role": "user", "content": "What is my name?"}])
    chats.append([{"role": "user", "content": "Tell me about whales."}, {"role": "assistant", "content": "Whales are the largest animals in the sea. They breathe air and must come up to the surface."},
                  {"role": "user", "content": "Tell me more."}])
    for chat in chats:
        ids = tok.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
        print(f"\n>>> {chat[-1]['content']}")
        for label, opts in (("greedy", {"do_sample": False, "temperature": None, "top_p": None}), ("t=0.7", {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0})):
            torch.manual_seed(1)
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=500, pad_token_id=tok.eos_token_id, **opts)[0, ids.shape[1]:]
            print(f"[{label}, {len(out)} tokens] {tok.decode(out, skip_special_tokens=True)}")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "tattler-3m"))
    ap.add_argument("--minutes", type=float, default=25.0)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--rows", type=int, default=4, help="rows of 512 tokens per step")
    ap.add_argument("--lr", type=float, default=2.5e-3)
    ap.add_argument("--compile", action="store_true", help="use torch.compile (needs a C++ compiler)")
    ap.add_argument("--check", metavar="DIR")
    args = ap.parse_args()
    if args.check:
        check(args.check)
    else:
        train(args)


if __name__ == "__main__":
    main()
