#!/usr/bin/env python3
"""Bad input from outside: request bodies, bytes on the socket. Each gets the right status in the OpenAI form.

Nothing may be harmed: after every group of inputs one good request must still give the answer that it gave at the
start, from the same processes. Damaged model files: test_bad_model.py. What is refused never reaches a worker, so the
controller is the sanitized one here.
"""

import contextlib
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import tap  # noqa: E402
from cluster import Cluster, variant_of  # noqa: E402
from tap import check, check_equal  # noqa: E402

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GOOD = {
    "model": "tattler-3m",
    "messages": [{"role": "user", "content": "Name four birds."}],
    "max_tokens": 12,
    "temperature": 0,
    "logprobs": True,
}
ANSWER_S = 60
CONTEXT = 2048
BODY_MAX = 8 << 20


class Context:
    def __init__(self, up):
        self.up, self.pids = up, up.workers()
        self.good = self.answer()

    def answer(self):
        status, _, got = self.up.post(CHAT, GOOD)
        check_equal(status, 200, "status of a good request")
        return got["choices"], got["usage"]["completion_tokens"]

    def check_unharmed(self):
        """The same processes are there, and give the same answer."""
        check_equal(self.up.workers("up"), self.pids, "workers")
        check_equal(self.answer(), self.good, "answer of a good request")


def check_error(status, body, want, name):
    """The status is one of `want`, and the body is an error in the OpenAI form."""
    check(status in want, f"{name}: status {status}, expected {want}: {tap.clip(body)}")
    error = body.get("error") if isinstance(body, dict) else None
    check(
        isinstance(error, dict)
        and {"message", "type", "param", "code"} <= set(error)
        and isinstance(error["message"], str)
        and error["message"],
        f"{name}: not an OpenAI error: {tap.clip(body)}",
    )
    return error


def post_raw(ctx, path, payload):
    """Posts bytes as JSON; (status, parsed body)."""
    status, _, body = ctx.up.post(path, payload, headers={"Content-Type": "application/json"}, timeout_s=ANSWER_S)
    return status, body


def refuse_all(ctx, cases):
    """cases: (name, path, body as object or bytes, param or None). All must be answered by 400."""
    for name, path, body, param in cases:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        error = check_error(*post_raw(ctx, path, payload), (400,), name)
        check(
            param is None or (error["param"] or "").startswith(param),
            f"{name}: param {error['param']!r}, expected {param!r}",
        )
    ctx.check_unharmed()


def chat(**kw):
    return {**GOOD, **kw}


def text(**kw):
    return {"model": "tattler-3m", "prompt": "The sea ", "max_tokens": 4, **kw}


def test_wrong_types_and_ranges_are_400(ctx):
    wrong = {
        "temperature": ["hot", -0.1, 1e308, [], {}, True],
        "top_p": [0, -1, 1.1, "x"],
        "top_k": [-2, 1.5, "x"],
        "min_p": [-0.1, 1.1],
        "presence_penalty": [-2.1, 2.1, "x"],
        "frequency_penalty": [-3, 3],
        "repetition_penalty": [0, -1],
        "max_tokens": [0, -1, 1.5, "many", 1 << 40],
        "seed": ["x", 1.5, {}],
        "n": [0, -1, 1.5, 129, 1 << 31, 1 << 63, "two"],
        "stream": ["yes", 1],
        "logprobs": [7, "x"],
        "top_logprobs": [-1, 21, 1.5, "x"],
        "min_tokens": [-1, "x"],
        "stop": [1, [1], [["a"]], ["x"] * 17, "y" * 513, [""]],
        "logit_bias": ["x", [1], {"a": 1}, {"-1": 1}, {"99999999": 1}, {"5": "x"}, {"5": 101}, {"5": -101}],
        "stream_options": ["x", {"include_usage": "x"}],
        "ignore_eos": ["x"],
        "stop_token_ids": ["x", [-1], [1 << 40]],
    }
    refuse_all(
        ctx,
        [
            (
                f"{field}={tap.clip(value, 60)}",
                CHAT,
                chat(**{field: value}),
                field if field not in ("logprobs", "stream_options") else None,
            )
            for field, values in wrong.items()
            for value in values
        ],
    )


def test_wrong_messages_are_400(ctx):
    wrong = [
        None,
        [],
        "hello",
        {},
        [1],
        ["x"],
        [{}],
        [{"role": "user"}],
        [{"content": "x"}],
        [{"role": 1, "content": "x"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": {"a": 1}}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}],
        [{"role": "user", "content": [5]}],
    ]
    refuse_all(
        ctx,
        [(f"messages={json.dumps(m)}", CHAT, chat(messages=m), None) for m in wrong]
        + [("no messages", CHAT, {"model": "tattler-3m"}, None), ("no prompt", TEXT, {"model": "tattler-3m"}, None)],
    )


def test_wrong_prompts_are_400(ctx):
    wrong = [
        5,
        {},
        [],
        [[]],
        [1.5],
        [-1],
        [1 << 40],
        [2048],
        [99999],
        ["x", 5],
        [5, "x"],
        [["x"]],
        [[5], "x"],
        [["5"]],
        [None],
        ["x"] * 300,
    ]
    refuse_all(ctx, [(f"prompt={tap.clip(p, 80)}", TEXT, text(prompt=p), None) for p in wrong])
    refuse_all(
        ctx,
        [
            ("best_of over n", TEXT, text(best_of=3), None),
            ("300 prompts, n=100", TEXT, text(prompt=["x"] * 200, n=100), None),
        ],
    )


def test_prompt_beyond_the_context_is_400(ctx):
    long = "the sea and the wind " * 2000
    for name, path, body in [
        ("long chat", CHAT, chat(messages=[{"role": "user", "content": long}])),
        ("long prompt", TEXT, text(prompt=long)),
        ("ids", TEXT, text(prompt=[5] * (CONTEXT + 1))),
        ("no room for max_tokens", TEXT, text(prompt=[5] * (CONTEXT - 10), max_tokens=11)),
        ("no room for one token", TEXT, text(prompt=[5] * CONTEXT, max_tokens=1)),
        ("max_tokens", CHAT, chat(max_tokens=CONTEXT)),
    ]:
        error = check_error(*post_raw(ctx, path, json.dumps(body).encode()), (400,), name)
        check_equal(error["code"], "context_length_exceeded", f"{name}: code")
    status, _, got = ctx.up.post(TEXT, text(prompt=[5] * (CONTEXT - 10), max_tokens=10, ignore_eos=True))
    check_equal(
        (status, got.get("usage", {}).get("total_tokens")), (200, CONTEXT), "a request that fills the context exactly"
    )
    ctx.check_unharmed()


def test_nan_and_infinity_are_400(ctx):
    cases = []
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"nan", b"0x10", b"+1", b".5", b"1."):
        for field in (b"temperature", b"top_p", b"frequency_penalty", b"seed"):
            cases.append(
                (
                    f"{field.decode()}={number.decode()}",
                    CHAT,
                    b'{"model": "tattler-3m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "'
                    + field
                    + b'": '
                    + number
                    + b"}",
                    None,
                )
            )
    refuse_all(ctx, cases)


def test_broken_json_is_400(ctx):
    good = json.dumps(GOOD).encode()
    depth = 200_000
    broken = [
        b"",
        b"{",
        b"null",
        b"5",
        b'"x"',
        b"[]",
        b"{}x",
        good + b"x",
        good[:-1],
        good[:40],
        b"\xff\xfe" + good,
        good.replace(b"birds", b"\xc3\x28"),
        good.replace(b"birds", b"\xed\xa0\x80"),
        good.replace(b"birds", b"\\ud800"),
        good.replace(b"birds", b"a\x00b"),
        good.replace(b"birds", b"a\nb"),
        good.replace(b"birds", b"\\x41"),
        good.replace(b"max_tokens", b"max_tokens\\"),
        b"{'model': 1}",
        b'{"model": "tattler-3m",}',
        b"[" * depth,
        b'{"a":' * depth,
        b'{"messages":' + b"[" * depth + b"]" * depth + b"}",
        b'{"logit_bias":' + b'{"1":' * depth + b"1" + b"}" * depth + b"}",
    ]
    for path in (CHAT, TEXT, "/tokenize", "/detokenize"):
        refuse_all(ctx, [(f"{path} {body[:50]!r}", path, body, None) for body in broken])


def test_unknown_model_is_404(ctx):
    for path, body in ((CHAT, chat(model="gpt-none")), (TEXT, text(model="gpt-none"))):
        check_error(*post_raw(ctx, path, json.dumps(body).encode()), (404,), path)
    check_error(*post_raw(ctx, CHAT, json.dumps(chat(model=5)).encode()), (400, 404), "model=5")
    for method, path, want in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/none", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
    ):
        status, body = exchange(ctx, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())[0]
        check_error(status, json.loads(body), (want,), f"{method} {path}")
    ctx.check_unharmed()


def test_hostile_text_is_answered_in_time(ctx):
    for name, piece in (
        ("spaces", " "),
        ("one letter", "a"),
        ("newlines", "\n"),
        ("digits", "7"),
        ("emoji", "🐦"),
        ("special tokens", "<|eot_id|>"),
        ("nul", "\x00"),
    ):
        body = json.dumps(
            chat(messages=[{"role": "user", "content": piece * (1_000_000 // len(piece.encode()))}])
        ).encode()
        status, answer = post_raw(ctx, CHAT, body)
        check(status in (200, 400), f"{name}: status {status}: {tap.clip(answer)}")
    ctx.check_unharmed()


def test_big_bodies_are_413(ctx):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_MAX + 1}\r\n\r\n".encode()
    status, body = exchange(ctx, head)[0]
    check_error(status, json.loads(body), (413,), "a length over the limit")
    huge = head.replace(str(BODY_MAX + 1).encode(), b"99999999999999999999999999")
    status, body = exchange(ctx, huge)[0]
    check_error(status, json.loads(body), (400, 413), "a length beyond 64 bits")
    chunked = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    status, body = exchange(ctx, chunked + (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 9)[0]
    check_error(status, json.loads(body), (413,), "chunks over the limit")
    ctx.check_unharmed()


def exchange(ctx, data, half_close=False):
    """Sends bytes on a connection of its own; all answers until the server closes, as [(status, body)]."""
    with socket.create_connection((ctx.up.host, ctx.up.port), timeout=ANSWER_S) as sock:
        with contextlib.suppress(ConnectionError):  # it may answer and close before it has read everything
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        return read_answers(sock)


def read_answers(sock):
    """All answers until the server closes the connection; a socket timeout fails the test."""
    raw, answers = b"", []
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            raw += piece
    while raw:
        head, sep, rest = raw.partition(b"\r\n\r\n")
        check(sep and head.startswith(b"HTTP/1.1 "), f"not an answer: {raw[:100]!r}")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", len(rest)))
        answers.append((int(head.split(b" ")[1]), rest[:length]))
        raw = rest[length:]
    check(answers, "the server closed without an answer")
    return answers


def request_with(lines, body=json.dumps(GOOD).encode(), first=f"POST {CHAT} HTTP/1.1"):
    """A request head of these lines, in front of a body."""
    return "\r\n".join([first, *lines]).encode("latin-1") + b"\r\n\r\n" + body


def test_ambiguous_framing_is_400(ctx):
    n = len(json.dumps(GOOD))
    cases = {
        "two lengths": ["Host: x", f"Content-Length: {n}", f"Content-Length: {n + 5}"],
        "the same length twice": ["Host: x", f"Content-Length: {n}", f"Content-Length: {n}"],
        "a list of lengths": ["Host: x", f"Content-Length: {n}, {n}"],
        "length and chunks": ["Host: x", f"Content-Length: {n}", "Transfer-Encoding: chunked"],
        "chunks and length": ["Host: x", "Transfer-Encoding: chunked", f"Content-Length: {n}"],
        "plus sign": ["Host: x", f"Content-Length: +{n}"],
        "minus sign": ["Host: x", "Content-Length: -1"],
        "hex length": ["Host: x", f"Content-Length: 0x{n:x}"],
        "empty length": ["Host: x", "Content-Length: "],
        "folded line": ["Host: x", "X-A: b", " c", f"Content-Length: {n}"],
        "blank before colon": ["Host: x", f"Content-Length : {n}"],
        "no colon": ["Host: x", "Nonsense", f"Content-Length: {n}"],
        "nul in a value": ["Host: x", "X-A: b\0c", f"Content-Length: {n}"],
        "no host": [f"Content-Length: {n}"],
        "two hosts": ["Host: x", "Host: y", f"Content-Length: {n}"],
        "bare LF": ["Host: x\nX-A: b", f"Content-Length: {n}"],
        "bare CR": ["Host: x", "X-A: b\rc", f"Content-Length: {n}"],
        "unknown coding": ["Host: x", "Transfer-Encoding: gzip, chunked"],
        "chunked twice": ["Host: x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    }
    for name, lines in cases.items():
        answers = exchange(ctx, request_with(lines))
        check_equal(len(answers), 1, f"{name}: number of answers")
        check_error(answers[0][0], json.loads(answers[0][1]), (400, 501), name)
    ctx.check_unharmed()


def test_broken_chunks_are_400(ctx):
    lines = ["Host: x", "Transfer-Encoding: chunked", "Connection: close"]
    for name, body in {
        "no hex": b"xyz\r\n",
        "sign": b"-5\r\nhello\r\n0\r\n\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "too long": b"5\r\nhello!!\r\n0\r\n\r\n",
        "beyond 64 bits": b"fffffffffffffffff\r\n",
        "bare LF": b"5\nhello\n0\n\n",
        "endless extension": b"5;" + b"x" * 100_000,
    }.items():
        status, answer = exchange(ctx, request_with(lines, body))[0]
        check_error(status, json.loads(answer), (400, 413, 431), name)
    ctx.check_unharmed()


def test_bad_heads_are_refused(ctx):
    for name, first, want in [
        ("no HTTP", "hello", (400,)),
        ("HTTP/2", "GET / HTTP/2.0", (400, 505)),
        ("HTTP/0.9", "GET /", (400, 505)),
        ("method", "BREW /coffee HTTP/1.1", (400, 405, 501)),
        ("no path", "GET  HTTP/1.1", (400,)),
        ("blank in path", "GET /a b HTTP/1.1", (400,)),
        ("long path", "GET /" + "a" * 100_000 + " HTTP/1.1", (414, 431)),
        ("control byte", "GET /\x01 HTTP/1.1", (400,)),
    ]:
        status, answer = exchange(ctx, request_with(["Host: x"], b"", first))[0]
        check_error(status, json.loads(answer), want, name)
    for name, lines in [("many fields", [f"X-{i}: y" for i in range(1000)]), ("long field", ["X-A: " + "y" * 200_000])]:
        status, answer = exchange(ctx, request_with(["Host: x", *lines], b"", "GET /health HTTP/1.1"))[0]
        check_error(status, json.loads(answer), (431,), name)
    ctx.check_unharmed()


def test_nothing_is_smuggled_behind_a_refused_request(ctx):
    inner = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = exchange(
        ctx, request_with(["Host: x", "Content-Length: 5", f"Content-Length: {5 + len(inner)}"], b"hello" + inner)
    )
    check_equal([s for s, _ in answers], [400], "statuses")


def test_pipelined_requests_are_answered_in_order(ctx):
    get = "GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n"
    data = (
        get.format("/health", "") + get.format("/v1/models", "") + get.format("/nowhere", "Connection: close\r\n")
    ).encode()
    check_equal([s for s, _ in exchange(ctx, data)], [200, 200, 404], "statuses")
    ctx.check_unharmed()


def test_half_requests_and_silent_clients_harm_nobody(ctx):
    with contextlib.ExitStack() as stack:
        for data in (
            b"",
            b"POST /v1/chat",
            request_with(["Host: x", "Content-Length: 500"], b"{"),
            request_with(["Host: x", "Transfer-Encoding: chunked"], b"5\r\nhe"),
        ):
            for _ in range(20):
                sock = stack.enter_context(socket.create_connection((ctx.up.host, ctx.up.port), timeout=ANSWER_S))
                sock.sendall(data)
        ctx.check_unharmed()
    ctx.check_unharmed()


def test_wrong_worker_port_talk_is_dropped(ctx):
    host, port = ctx.up.worker_endpoint.rsplit(":", 1)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\0" * 4096, bytes(range(256)) * 64):
        with socket.create_connection((host, int(port)), timeout=ANSWER_S) as sock, contextlib.suppress(
            ConnectionError
        ):
            sock.sendall(data)
            while sock.recv(65536):
                pass
    ctx.check_unharmed()


def test_bad_admin_input_is_400(ctx):
    for body in (
        {},
        {"worker": "none", "kind": "preempt", "deadline_s": 5},
        {"worker": 5, "kind": "preempt", "deadline_s": 5},
        {"worker": "w0", "kind": "x", "deadline_s": 5},
        {"worker": "w0", "kind": "preempt", "deadline_s": -1},
        {"worker": "w0", "kind": "preempt", "deadline_s": "x"},
        {"worker": "w0", "kind": "preempt", "deadline_s": 1e300},
    ):
        with socket.create_connection((ctx.up.host, ctx.up.admin_port), timeout=ANSWER_S) as sock:
            payload = json.dumps(body).encode()
            sock.sendall(
                request_with(
                    [
                        "Host: 127.0.0.1",
                        "Connection: close",
                        "Content-Type: application/json",
                        f"Content-Length: {len(payload)}",
                    ],
                    payload,
                    "POST /admin/notice HTTP/1.1",
                )
            )
            status, answer = read_answers(sock)[0]
        check_error(status, json.loads(answer), (400, 404), f"notice {body}")
    ctx.check_unharmed()


@contextlib.contextmanager
def setup(args):
    with Cluster(variant=variant_of(args.variant, "mixed"), workers=2) as up:
        yield Context(up)


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
