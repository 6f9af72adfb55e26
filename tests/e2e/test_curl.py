#!/usr/bin/env python3
"""curl: the line that `godwit up` prints works as it stands, and the bytes on the wire are those of DESIGN part 8."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import tap  # noqa: E402
from cluster import Cluster  # noqa: E402
from tap import Skip, check, check_equal  # noqa: E402

CURL_S = 60


def curl(up, path, body=None, *options):
    """(head, body) as bytes, exactly as they came, transfer coding taken off."""
    argv = ["curl", "-sS", "-N", "-i", "--max-time", str(CURL_S), *options, f"http://{up.host}:{up.port}{path}"]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    out = subprocess.run(argv, capture_output=True, timeout=CURL_S + 10)
    check_equal(out.returncode, 0, f"exit status of curl ({out.stderr.decode(errors='replace').strip()})")
    head, _, rest = out.stdout.partition(b"\r\n\r\n")
    return head, rest


def events_of(body):
    """The `data:` payloads of a stream; every byte must belong to one."""
    check(body.endswith(b"\n\n"), f"the stream ends with {body[-20:]!r}")
    events = body[:-2].split(b"\n\n")
    for e in events:
        check(e.startswith(b"data: ") and b"\n" not in e and b"\r" not in e, f"not one data line: {e[:120]!r}")
    return [e[6:] for e in events]


def test_the_printed_line_works(up):
    line = re.search(r"^\s*try it\s+(curl .*)$", up.output(), re.M)
    check(line, f"`up` printed no curl line:\n{up.output()}")
    out = subprocess.run(
        ["bash", "-c", line[1] + f" -sS --max-time {CURL_S}"], capture_output=True, timeout=CURL_S + 10
    )
    check_equal(out.returncode, 0, f"exit status ({out.stderr.decode(errors='replace')})")
    events = events_of(out.stdout)
    check_equal(events[-1], b"[DONE]", "last event")
    text = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in json.loads(e)["choices"])
    check(len(text.split()) > 5, f"text: {text!r}")


def test_chat_stream_bytes(up):
    head, body = curl(
        up,
        "/v1/chat/completions",
        {
            "model": "tattler-3m",
            "stream": True,
            "max_tokens": 8,
            "temperature": 0,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Hello!"}],
            "stream_options": {"include_usage": True},
        },
    )
    check(head.startswith(b"HTTP/1.1 200 OK\r\n"), f"status line {head[:40]!r}")
    check(
        re.search(rb"(?mi)^content-type: text/event-stream(; charset=utf-8)?\r?$", head), f"no event stream: {head!r}"
    )
    check(
        re.search(rb"(?mi)^cache-control: .*no-cache", head) or re.search(rb"(?mi)^cache-control: .*no-store", head),
        f"may be cached: {head!r}",
    )
    *chunks, last, done = events_of(body)
    check_equal(done, b"[DONE]", "last event")
    chunks, last = [json.loads(c) for c in chunks], json.loads(last)
    check_equal(last["choices"], [], "choices of the usage chunk")
    check_equal(last["usage"]["completion_tokens"], 8, "completion_tokens")
    for c in chunks:
        check_equal(
            (c["object"], c["model"], c["id"], len(c["choices"])),
            ("chat.completion.chunk", "tattler-3m", chunks[0]["id"], 1),
            "a chunk",
        )
        check(not c.get("usage"), f"usage before the usage chunk: {c}")
    check_equal(chunks[0]["choices"][0]["delta"].get("role"), "assistant", "role of the first chunk")
    check_equal(
        [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]],
        ["length"],
        "finish reasons",
    )


def test_text_stream_bytes(up):
    _, body = curl(
        up,
        "/v1/completions",
        {
            "model": "tattler-3m",
            "stream": True,
            "max_tokens": 8,
            "temperature": 0,
            "prompt": "The sea ",
            "ignore_eos": True,
        },
    )
    *chunks, done = events_of(body)
    check_equal(done, b"[DONE]", "last event")
    check(
        all(json.loads(c)["object"] == "text_completion" and json.loads(c)["choices"] for c in chunks),
        "a usage chunk nobody asked for, or no completion",
    )


def test_plain_answer_has_a_length(up):
    head, body = curl(
        up,
        "/v1/chat/completions",
        {"model": "tattler-3m", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello!"}]},
    )
    check(re.search(rb"(?mi)^content-type: application/json\r?$", head), f"not JSON: {head!r}")
    length = re.search(rb"(?mi)^content-length: (\d+)\r?$", head)
    check(length and int(length[1]) == len(body), f"length {length and length[1]}, body {len(body)}")
    check_equal(json.loads(body)["object"], "chat.completion", "object")


def test_error_form(up):
    head, body = curl(up, "/v1/chat/completions", {"model": "tattler-3m", "messages": "no list"})
    check(head.startswith(b"HTTP/1.1 400 Bad Request"), f"status line {head[:40]!r}")
    check_equal(sorted(json.loads(body)["error"]), ["code", "message", "param", "type"], "fields of an error")


def test_plain_routes(up):
    check_equal(json.loads(curl(up, "/v1/models")[1])["data"][0]["id"], "tattler-3m", "model")
    for path in ("/health", "/ready", "/version"):
        check(curl(up, path)[0].startswith(b"HTTP/1.1 200"), f"{path} is not well")
    ids = json.loads(curl(up, "/tokenize", {"model": "tattler-3m", "prompt": "héllo 🐦 sea"})[1])
    text = json.loads(curl(up, "/detokenize", {"model": "tattler-3m", "tokens": ids["tokens"]})[1])
    check("héllo 🐦 sea" in text["prompt"], f"detokenized: {text}")
    check(curl(up, "/nowhere")[0].startswith(b"HTTP/1.1 404"), "an unknown route is not 404")
    check(curl(up, "/v1/models", {})[0].startswith(b"HTTP/1.1 405"), "POST on a GET route is not 405")


def test_one_connection_many_requests(up):
    url = f"http://{up.host}:{up.port}/v1/models"
    out = subprocess.run(
        [
            "curl",
            "-sS",
            "--max-time",
            str(CURL_S),
            "-w",
            "%{num_connects}\n",
            "-o",
            "/dev/null",
            url,
            "-o",
            "/dev/null",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=CURL_S + 10,
    )
    check_equal(out.stdout.split(), ["1", "0"], "new connections per request")


def test_expect_100_continue(up):
    body = {"model": "tattler-3m", "max_tokens": 2, "messages": [{"role": "user", "content": "sea " * 300}]}
    head, _ = curl(up, "/v1/chat/completions", body, "-H", "Expect: 100-continue")
    check(head.startswith((b"HTTP/1.1 100", b"HTTP/1.1 200")), f"status line {head[:60]!r}")


@contextlib.contextmanager
def setup(args):
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    with Cluster(variant=args.variant, workers=1) as up:
        yield up


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS, setup=setup))
