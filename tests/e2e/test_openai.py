#!/usr/bin/env python3
"""The real `openai` Python package against a cluster: what its users do, and which exceptions they get."""

import asyncio
import contextlib
import math
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import tap  # noqa: E402
from cluster import Cluster  # noqa: E402
from tap import Skip, check, check_equal  # noqa: E402

try:
    import openai
except ImportError:
    openai = None

MODEL = "tattler-3m"
WHOLE = {"ignore_eos": True, "skip_special_tokens": False}  # the text holds every token
STORY = [{"role": "user", "content": "Tell me a long story about a fox named Lily."}]


class Context:
    def __init__(self, up):
        self.up = up
        self.api = openai.OpenAI(base_url=f"http://{up.host}:{up.port}/v1", api_key="none", max_retries=0, timeout=120)

    def chat(self, **kw):
        return self.api.chat.completions.create(
            **{"model": MODEL, "messages": STORY, "max_tokens": 24, "temperature": 0, **kw}
        )

    def text(self, **kw):
        return self.api.completions.create(
            **{"model": MODEL, "prompt": "The little bird ", "max_tokens": 16, "temperature": 0, **kw}
        )


def raises(kind, function, *args, **kw):
    """Calls the function, which must raise exactly this class of exception; returns it."""
    try:
        function(*args, **kw)
    except kind as e:
        check(type(e) is kind, f"got {type(e).__name__}, expected {kind.__name__}")
        return e
    except openai.OpenAIError as e:
        check(False, f"got {type(e).__name__}: {e}, expected {kind.__name__}")
    raise tap.Failure(f"no {kind.__name__} was raised by {kw}")


def test_models_list_and_retrieve(ctx):
    check_equal([m.id for m in ctx.api.models.list().data], [MODEL], "models")
    check_equal(ctx.api.models.retrieve(MODEL).object, "model", "object of a model")
    raises(openai.NotFoundError, ctx.api.models.retrieve, "gpt-none")


def test_chat_answers(ctx):
    got = ctx.chat()
    check_equal(got.object, "chat.completion", "object")
    check_equal(got.model, MODEL, "model")
    check_equal(got.choices[0].message.role, "assistant", "role")
    check(got.choices[0].message.content.strip(), "empty content")
    check_equal(got.choices[0].finish_reason, "length", "finish_reason")
    check_equal(got.usage.completion_tokens, 24, "completion_tokens")
    check_equal(got.usage.total_tokens, got.usage.prompt_tokens + 24, "total_tokens")
    check(got.id and got.created > 1_600_000_000, f"id {got.id}, created {got.created}")


def test_chat_stream_equals_plain_answer(ctx):
    plain = ctx.chat(seed=5, temperature=0.8, max_tokens=80)
    chunks = list(ctx.chat(seed=5, temperature=0.8, max_tokens=80, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check_equal(text, plain.choices[0].message.content, "streamed text")
    check_equal(chunks[0].choices[0].delta.role, "assistant", "role of the first chunk")
    check_equal(
        [c.choices[0].finish_reason for c in chunks if c.choices][-1], plain.choices[0].finish_reason, "finish_reason"
    )
    check_equal([c for c in chunks if not c.choices], chunks[-1:], "chunks without choices")
    check_equal(chunks[-1].usage.completion_tokens, plain.usage.completion_tokens, "completion_tokens")
    check_equal(len({c.id for c in chunks}), 1, "number of ids")
    check_equal({c.object for c in chunks}, {"chat.completion.chunk"}, "objects")


def test_stream_without_include_usage_has_no_usage(ctx):
    chunks = list(ctx.chat(stream=True))
    check(all(c.choices and not c.usage for c in chunks), "a usage chunk although none was asked for")


def test_completions_string_list_and_ids(ctx):
    one = ctx.text()
    check_equal(one.object, "text_completion", "object")
    two = ctx.text(prompt=["The little bird ", "The sea "])
    check_equal([c.index for c in two.choices], [0, 1], "indices")
    check_equal(two.choices[0].text, one.choices[0].text, "text of the first of two prompts")
    ids = ctx.up.post("/tokenize", {"model": MODEL, "prompt": "The little bird "})[2]["tokens"]
    check_equal(ctx.text(prompt=ids).choices[0].text, one.choices[0].text, "text for token ids")
    check_equal(ctx.text(prompt=[ids, ids]).choices[1].text, one.choices[0].text, "text for lists of token ids")
    streamed = "".join(c.choices[0].text for c in ctx.text(stream=True))
    check_equal(streamed, one.choices[0].text, "streamed text")


def test_completions_echo(ctx):
    check_equal(ctx.text(echo=True).choices[0].text, "The little bird " + ctx.text().choices[0].text, "text with echo")


def test_n_choices_differ_and_repeat(ctx):
    got = ctx.chat(n=3, temperature=1.0, seed=11, max_tokens=40)
    texts = [c.message.content for c in got.choices]
    check_equal([c.index for c in got.choices], [0, 1, 2], "indices")
    check_equal(len(set(texts)), 3, "different texts")
    check_equal(got.usage.completion_tokens, 120, "completion_tokens of three choices")
    again = ctx.chat(n=3, temperature=1.0, seed=11, max_tokens=40)
    check_equal([c.message.content for c in again.choices], texts, "texts for the same seed")


def test_seed_decides(ctx):
    draw = lambda seed: ctx.chat(temperature=1.0, seed=seed, max_tokens=40).choices[0].message.content  # noqa: E731
    check_equal(draw(1), draw(1), "text for the same seed")
    check(draw(1) != draw(2), "two seeds gave the same text")


def test_chat_logprobs(ctx):
    got = ctx.chat(logprobs=True, top_logprobs=3, extra_body=WHOLE)
    records = got.choices[0].logprobs.content
    check_equal(len(records), got.usage.completion_tokens, "records")
    check_equal(
        b"".join(bytes(r.bytes) for r in records).decode(), got.choices[0].message.content, "bytes of all records"
    )
    for r in records:
        check(math.isfinite(r.logprob) and r.logprob <= 0, f"logprob {r.logprob}")
        check_equal(len(r.top_logprobs), 3, "top_logprobs")
        check_equal(
            (r.top_logprobs[0].token, r.top_logprobs[0].logprob), (r.token, r.logprob), "best token of a greedy step"
        )
        check(
            r.top_logprobs[0].logprob >= r.top_logprobs[1].logprob >= r.top_logprobs[2].logprob,
            "top_logprobs out of order",
        )
    check(ctx.chat().choices[0].logprobs is None, "logprobs although none were asked for")


def test_completion_logprobs(ctx):
    got = ctx.text(logprobs=2, extra_body=WHOLE).choices[0]
    lp = got.logprobs
    check_equal("".join(lp.tokens), got.text, "tokens together")
    check_equal({len(lp.tokens), len(lp.token_logprobs), len(lp.top_logprobs), len(lp.text_offset)}, {16}, "lengths")
    check(
        all(t in top and math.isclose(top[t], p) for t, p, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs)),
        "greedy token not in its top",
    )


def test_stop_strings_end_the_text(ctx):
    whole = ctx.chat(max_tokens=80).choices[0].message.content
    stop = whole[20:26]
    got = ctx.chat(max_tokens=80, stop=[stop, "never said"])
    check_equal(got.choices[0].message.content, whole[: whole.index(stop)], "text before the stop string")
    check_equal(got.choices[0].finish_reason, "stop", "finish_reason")
    text = "".join(c.choices[0].delta.content or "" for c in ctx.chat(max_tokens=80, stop=stop, stream=True))
    check_equal(text, whole[: whole.index(stop)], "streamed text before the stop string")


def test_answer_ends_by_itself(ctx):
    got = ctx.chat(messages=[{"role": "user", "content": "Name four birds."}], max_tokens=1000)
    check_equal(got.choices[0].finish_reason, "stop", "finish_reason")
    check(got.usage.completion_tokens < 1000, "it went on to the limit")


def test_max_completion_tokens(ctx):
    got = ctx.api.chat.completions.create(model=MODEL, messages=STORY, max_completion_tokens=7)
    check_equal(got.usage.completion_tokens, 7, "completion_tokens")


def test_logit_bias_and_penalties(ctx):
    first = ctx.up.post(
        "/tokenize",
        {"model": MODEL, "prompt": ctx.chat(max_tokens=1).choices[0].message.content, "add_special_tokens": False},
    )[2]["tokens"][0]
    check(
        ctx.chat(max_tokens=1, logit_bias={str(first): -100}).choices[0].message.content
        != ctx.chat(max_tokens=1).choices[0].message.content,
        "a forbidden token was chosen",
    )
    plain, punished = ctx.chat(max_tokens=150), ctx.chat(max_tokens=150, presence_penalty=2.0, frequency_penalty=2.0)
    check(plain.choices[0].message.content != punished.choices[0].message.content, "penalties change nothing")


def test_conversation_with_system_message(ctx):
    got = ctx.chat(
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello! How can I help you?"},
            {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]},
        ]
    )
    check(got.choices[0].message.content.strip(), "empty content")


def test_async_streams_together(ctx):
    async def one(api, seed):
        stream = await api.chat.completions.create(
            model=MODEL, messages=STORY, max_tokens=40, temperature=1.0, seed=seed, stream=True
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def all_of_them():
        async with openai.AsyncOpenAI(
            base_url=f"http://{ctx.up.host}:{ctx.up.port}/v1", api_key="none", max_retries=0, timeout=120
        ) as api:
            return await asyncio.gather(*[one(api, seed) for seed in range(8)])

    for seed, text in enumerate(asyncio.run(all_of_them())):
        check_equal(
            ctx.chat(max_tokens=40, temperature=1.0, seed=seed).choices[0].message.content,
            text,
            f"text for seed {seed}",
        )


def test_errors_have_their_classes(ctx):
    e = raises(openai.BadRequestError, ctx.chat, temperature=-1)
    check_equal((e.status_code, e.param, e.type), (400, "temperature", "invalid_request_error"), "temperature -1")
    e = raises(openai.BadRequestError, ctx.chat, max_tokens=100_000)
    check_equal(e.code, "context_length_exceeded", "code of a request beyond the context")
    e = raises(openai.NotFoundError, ctx.chat, model="gpt-none")
    check_equal(e.code, "model_not_found", "code of an unknown model")
    raises(openai.BadRequestError, ctx.chat, messages=[])
    raises(openai.BadRequestError, ctx.chat, n=0)
    raises(openai.BadRequestError, ctx.chat, stream=True, top_p=7)
    raises(openai.BadRequestError, ctx.text, prompt=[1, 10_000_000])
    raises(openai.NotFoundError, ctx.api.embeddings.create, model=MODEL, input="x")


def test_wrong_key_is_refused(ctx):
    path = os.path.join(ctx.up.dir, "keys")
    with open(path, "w") as f:
        f.write("tenant-a:sk-right\n")
    os.chmod(path, 0o600)
    with Cluster(variant=ctx.up.variant, workers=1, extra=["--api-keys", path]) as up:
        base = f"http://{up.host}:{up.port}/v1"
        right = openai.OpenAI(base_url=base, api_key="sk-right", max_retries=0)
        check_equal([m.id for m in right.models.list().data], [MODEL], "models for the right key")
        e = raises(
            openai.AuthenticationError, openai.OpenAI(base_url=base, api_key="sk-wrong", max_retries=0).models.list
        )
        check_equal(e.status_code, 401, "status for a wrong key")


@contextlib.contextmanager
def setup(args):
    if openai is None:
        raise Skip("the Python package openai is not installed (`make test` puts it into build/venv)")
    with Cluster(variant=args.variant, workers=2) as up:
        yield Context(up)


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
