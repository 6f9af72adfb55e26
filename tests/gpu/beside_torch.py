#!/usr/bin/env python3
"""What tests/gpu/bench_gpu.c measures, by PyTorch and transformers on the same GPU: products, causal attention, a step of decoding.

usage: tests/gpu/beside_torch.py cuda:N      the shapes of bench_gpu.c (Llama-3-8B)
       tests/gpu/beside_torch.py cpu         small ones, so that the script itself can be tried anywhere; figures mean nothing

Prints `torch <name>: <x> <unit>`, and says what is not installed. Times are the best of ten."""

import sys
import time

ROUNDS = 10
# of Llama-3-8B, and of a small model of the same form
LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def seconds(torch, device, work):
    best = float("inf")
    for _ in range(ROUNDS):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        else:
            start_s = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - start_s)
    return best


def products_and_attention(torch, device, shape, rows, lengths):
    def random(*size):
        return torch.randn(*size, device=device, dtype=torch.bfloat16)

    k, n, heads = shape["hidden_size"], 2 * shape["intermediate_size"], shape["num_attention_heads"]
    head = k // heads
    for m in rows:
        x, w = random(m, k), random(n, k)
        took = seconds(torch, device, lambda x=x, w=w: x @ w.T)
        print(f"torch matmul_m{m}: {2 * m * n * k / took / 1e12:.4g} TFLOP/s", flush=True)
    for length in lengths:
        qkv = [random(1, heads, length, head) for _ in range(3)]
        took = seconds(torch, device, lambda qkv=qkv: torch.nn.functional.scaled_dot_product_attention(*qkv, is_causal=True))
        print(f"torch prefill_{length}: {2 * heads * head * length * length / took / 1e12:.4g} TFLOP/s", flush=True)


def decode_steps(torch, transformers, device, shape, batches, context):
    """One token of each sequence behind `context` others, through all layers, without embeddings and head, as bench_gpu.c's."""
    config = transformers.LlamaConfig(**shape, vocab_size=32, max_position_embeddings=2 * context)
    with torch.device(device):
        model = transformers.LlamaModel(config).to(torch.bfloat16).eval()
    for batch in batches:
        with torch.inference_mode():
            cache = transformers.DynamicCache(config=config)
            hidden = shape["hidden_size"]
            before = torch.zeros(batch, context - 1, hidden, device=device, dtype=torch.bfloat16)
            model(inputs_embeds=before, past_key_values=cache, use_cache=True)
            token = torch.zeros(batch, 1, hidden, device=device, dtype=torch.bfloat16)

            def step(cache=cache, token=token):
                model(inputs_embeds=token, past_key_values=cache, use_cache=True)
                cache.crop(-1)

            took = seconds(torch, device, step)
        print(f"torch transformers_step_m{batch}: {took * 1e3:.4g} ms", flush=True)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        return print("# no PyTorch: nothing to compare with")
    device = torch.device(sys.argv[1])
    if device.type == "cuda" and not torch.cuda.is_available():
        return print("# PyTorch has no CUDA: nothing to compare with")
    real = device.type == "cuda"
    shape = LLAMA if real else SMALL
    products_and_attention(torch, device, shape, (1, 16, 64, 512, 4096) if real else (1, 16), (2048, 8192) if real else (64,))
    try:
        import transformers  # pylint: disable=import-outside-toplevel
    except ImportError:
        return print("# no transformers: no steps to compare with")
    return decode_steps(torch, transformers, device, shape, (1, 8, 64) if real else (1, 2), 1024 if real else 32)


if __name__ == "__main__":
    main()
