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
import random
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
        "eos_token_id": [ids[EOT_TEXT], ids[EOT]], "head_dim": 32, "hidden_act": "silu", "hidden_size": 192, "initializer_range": 0.06,
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


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before it is applied (five Newton-Schulz steps, K. Jordan 2024).

    It needs about half the tokens that AdamW needs here. Matrices of one shape are handled in one batch.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(list(params), dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - group["momentum"])
                by_shape.setdefault(p.shape, []).append((p, p.grad.lerp(buf, group["momentum"])))
            for (rows, cols), pairs in by_shape.items():
                x = torch.stack([u for _, u in pairs])
                x = self.orthogonal(x.mT if rows > cols else x)
                x = x.mT if rows > cols else x
                for (p, _), u in zip(pairs, x):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(u, alpha=-group["lr"] * max(1.0, rows / cols) ** 0.5)

    @staticmethod
    def orthogonal(x):
        a, b, c = 3.4445, -4.7750, 2.0315  # Jordan's coefficients: singular values land in about 0.7..1.2
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            g = x @ x.mT
            x = a * x + (b * g + c * g @ g) @ x
        return x


class Feed:
    """Batches of ids, with a weight for each id as a target.

    Most batches hold one document per row, sorted by length so that little is padded: a document then begins at position 0,
    as a request does. packed() lays documents end to end, which trains late positions.
    """

    FIRST = 16  # the opening of an answer decides whether it fits the question, so it weighs more

    def __init__(self, tok, seed, batch_tokens):
        self.tok, self.docs, self.batch_tokens = tok, documents(seed), batch_tokens
        self.rng = random.Random(seed)
        self.id = {s: tok.token_to_id(s) for s in SPECIALS}
        self.role = {r: tok.encode(r, add_special_tokens=False).ids for r in ("system", "user", "assistant")}
        self.nl = tok.encode("\n\n", add_special_tokens=False).ids
        self.ready, self.pairs = [], []

    def encode(self, count):
        batch = [d for _, d in zip(range(count), self.docs)]
        enc = iter(self.tok.encode_batch([t for d in batch for _, t in d], add_special_tokens=False))
        out = []
        for doc in batch:
            row = [(self.id[BOS], 0.0)]
            for role, _ in doc:
                body = next(enc).ids
                if role == "text":
                    row += [(i, 1.0) for i in body]
                    continue
                row += [(i, 0.05) for i in [self.id[HEAD]] + self.role[role] + [self.id[HEAD_END]] + self.nl]
                if role == "assistant":
                    row += [(i, 2.0 if n < self.FIRST else 1.0) for n, i in enumerate(body + [self.id[EOT]])]
                else:
                    row += [(i, 0.1) for i in body + [self.id[EOT]]]
            row.append((self.id[EOT_TEXT], 1.0 if doc[0][0] == "text" else 0.05))
            out.append(row)
        return out

    @staticmethod
    def tensors(rows, length):
        ids, w = np.zeros((len(rows), length + 1), dtype=np.int64), np.zeros((len(rows), length + 1), dtype=np.float32)
        for r, row in enumerate(rows):
            row = row[: length + 1]
            ids[r, : len(row)] = [i for i, _ in row]
            w[r, : len(row)] = [x for _, x in row]
        ids, w = torch.from_numpy(ids), torch.from_numpy(w)
        return ids[:, :-1], ids[:, 1:], w[:, 1:]

    def single(self):
        """[rows, length of the longest] of whole documents, at most 1024 tokens of each."""
        if not self.ready:
            rows, part = sorted(self.encode(1000), key=len), []
            for row in rows:
                if part and (len(part) + 1) * min(len(row), 1025) > self.batch_tokens:
                    self.ready.append(part)
                    part = []
                part.append(row)
            self.ready.append(part)
            self.rng.shuffle(self.ready)
        rows = self.ready.pop()
        return self.tensors(rows, min(1024, max(map(len, rows)) - 1))

    def packed(self, count, length):
        """[count, length] of documents that follow one another."""
        need = count * length + 1
        while len(self.pairs) < need:
            self.pairs += [p for row in self.encode(50) for p in row]
        rows = [self.pairs[i * length: (i + 1) * length + 1] for i in range(count)]
        del self.pairs[: need - 1]
        return self.tensors(rows, length)


def weighted_loss(model, x, y, w):
    """(loss to train on, mean loss of answers and prose, mean loss of the openings of answers)."""
    logits = model(input_ids=x, use_cache=False).logits
    each = torch.nn.functional.cross_entropy(logits.view(-1, VOCAB), y.reshape(-1), reduction="none")
    w = w.reshape(-1)
    said, first = w >= 1.0, w >= 2.0
    plain = each.detach()
    return (each * w).sum() / w.sum(), plain[said].mean().item(), plain[first].mean().item() if first.any() else None


@torch.no_grad()
def begin(model):
    """Blocks start as the identity; embeddings start large enough to be heard beside them, and the last norm makes up for it."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight.normal_(0.0, 0.15)
    model.model.norm.weight.fill_(0.4)


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
    begin(model)
    if args.resume:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(os.path.join(args.out, "model.safetensors")), strict=False)
    params = list(model.parameters())
    print(f"parameters {sum(p.numel() for p in params)}", flush=True)
    inner = [p for n, p in model.named_parameters() if p.dim() == 2 and "layers" in n]
    outer = [p for n, p in model.named_parameters() if not (p.dim() == 2 and "layers" in n)]
    opts = [Muon(inner, lr=args.lr), torch.optim.AdamW(outer, lr=args.lr / 6, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    rates = [g["lr"] for o in opts for g in o.param_groups]
    feed = Feed(tok, args.seed, args.tokens)
    start, total_s = time.monotonic(), args.minutes * 60.0
    next_save, step, tokens, smooth, smooth_first = 180.0, 0, 0, None, 7.6
    while (frac := max((time.monotonic() - start) / total_s, step / args.steps)) < 1.0:
        scale = min(1.0, (step + 1) / 40) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * frac)))
        for rate, g in zip(rates, (g for o in opts for g in o.param_groups)):
            g["lr"] = rate * scale
        if step % 64 == 63:
            x, y, w = feed.packed(1, 2048)
        elif step % 16 == 15:
            x, y, w = feed.packed(2, 1024)
        else:
            x, y, w = feed.single()
        loss, said, first = weighted_loss(model, x, y, w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        for o in opts:
            o.step()
        model.zero_grad(set_to_none=True)
        step += 1
        tokens += x.numel()
        smooth = said if smooth is None else 0.98 * smooth + 0.02 * said
        smooth_first = smooth_first if first is None else 0.98 * smooth_first + 0.02 * first
        if step % 20 == 0 or step == 1:
            print(f"{time.monotonic() - start:7.1f} s  step {step:5d}  tokens {tokens / 1e6:6.2f} M  loss {smooth:.4f}  openings {smooth_first:.4f}", flush=True)
        if time.monotonic() - start > next_save:
            save_weights(args.out, model)
            next_save += 300.0
    save_weights(args.out, model)
    print(f"done: {step} steps, {tokens} tokens, loss {smooth:.4f}, openings {smooth_first:.4f}, {time.monotonic() - start:.0f} s", flush=True)


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
    ap.add_argument("--minutes", type=float, default=38.0, help="stop after this time at the latest")
    ap.add_argument("--steps", type=int, default=2000, help="stop after this many steps (about 25 minutes on two idle cores)")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--tokens", type=int, default=2048, help="tokens per step, about")
    ap.add_argument("--lr", type=float, default=0.02, help="of Muon; AdamW, for embeddings and norms, gets a sixth")
    ap.add_argument("--resume", action="store_true", help="go on from the weights in --out (give another seed for fresh text)")
    ap.add_argument("--check", metavar="DIR", help="print some answers instead")
    args = ap.parse_args()
    if args.check:
        check(args.check)
    else:
        train(args)


if __name__ == "__main__":
    main()
