#!/usr/bin/env python3
"""The harness itself: a client, a comparison and a proxy that notice what they are there to notice, a build that can be run.

Small servers in this process play the part of a broken one.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import churn  # noqa: E402
import client  # noqa: E402
import cluster  # noqa: E402
import compare  # noqa: E402
import tap  # noqa: E402
import workload  # noqa: E402
from proxy import Proxy  # noqa: E402
from tap import check, check_equal  # noqa: E402

WAIT_S = 10
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text, token=None, finish=None, index=0):
    """A chat event with one record."""
    records = [{"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}] if token else []
    choice = {"index": index, "delta": {"content": text}, "logprobs": {"content": records}, "finish_reason": finish}
    return json.dumps({"id": "x", "choices": [choice]}).encode()


GOOD = [chunk("a", "a"), chunk("b", "b"), chunk("", finish="stop"), b"[DONE]"]


def framed(events, pieces=1 << 20):
    """The events as a chunked body, cut into pieces of so many bytes."""
    data = b"".join(b"data: " + e + b"\n\n" for e in events)
    cuts = [data[i : i + pieces] for i in range(0, len(data), pieces)]
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in cuts)


@contextlib.contextmanager
def server(answer):
    """A server that reads a request head and sends `answer`; gives (host, port)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with sock:
                        sock.recv(65536)
                        sock.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(WAIT_S)


def stream_of(answer):
    """The finished stream of a client that got this answer."""
    with server(answer) as (host, port), client.Client(host, port) as c:
        stream = c.submit(client.Completion(workload.CHAT, {"messages": [], "stream": True}))
        c.wait([stream], WAIT_S)
        return stream


def test_client_takes_a_good_stream_however_it_is_cut(_):
    for pieces in (1, 7, 1 << 20):
        got = stream_of(HEAD + framed(GOOD, pieces) + b"0\r\n\r\n")
        check(got.whole(), f"pieces of {pieces}: {got.error}")
        check_equal((got.choices[0].text, got.tokens(), got.choices[0].finish), ("ab", 2, "stop"), "stream")


def test_client_notices_broken_streams(_):
    end = b"0\r\n\r\n"
    broken = {
        "no [DONE]": HEAD + framed(GOOD[:-1]) + end,
        "cut off": HEAD + framed(GOOD[:2]),
        "no end of the chunks": HEAD + framed(GOOD),
        "an event behind [DONE]": HEAD + framed(GOOD + [GOOD[0]]) + end,
        "text behind finish_reason": HEAD + framed([GOOD[0], GOOD[2], GOOD[1], GOOD[3]]) + end,
        "an error event": HEAD + framed([GOOD[0], b'{"error": {"message": "x"}}', GOOD[3]]) + end,
        "no JSON": HEAD + framed([b"{", GOOD[3]]) + end,
        "no data line": HEAD + b"4\r\nx: y\r\n" + end,
        "a chunk that lies": HEAD + b"3\r\ndata: x\n\n\r\n" + end,
        "bytes behind the end": HEAD + framed(GOOD) + end + b"x",
        "an error status": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}",
        "nothing": b"",
    }
    for name, answer in broken.items():
        got = stream_of(answer)
        check(got.error and not got.whole(), f"{name}: taken for good")
    check(not stream_of(HEAD + framed([GOOD[0], GOOD[3]]) + end).whole(), "no finish_reason: taken for good")


def test_compare_counts_lost_and_duplicated_records(_):
    a, b, c, d = "abcd"
    for got, want in [
        ("abcd", (0, 0)),
        ("abd", (1, 0)),
        ("abbcd", (0, 1)),
        ("ab", (2, 0)),
        ("abxd", (1, 1)),
        ("", (4, 0)),
    ]:
        check_equal(compare.lost_and_extra([a, b, c, d], list(got)), want, f"abcd against {got!r}")


def test_compare_judges_streams(_):
    end = b"0\r\n\r\n"
    good = stream_of(HEAD + framed(GOOD) + end)
    check(compare.judge({0: good}, {0: good}).good(), "a stream is not identical with itself")
    for name, events in {
        "a lost token": [GOOD[0], GOOD[2], GOOD[3]],
        "a token twice": [GOOD[0], GOOD[0], *GOOD[1:]],
        "other text": [chunk("x", "a"), *GOOD[1:]],
        "other finish_reason": [*GOOD[:2], chunk("", finish="length"), GOOD[3]],
        "no finish_reason": [*GOOD[:2], GOOD[3]],
    }.items():
        verdict = compare.judge({0: good}, {0: stream_of(HEAD + framed(events) + end)})
        check(not verdict.good() and verdict.first_trouble, f"{name}: taken for identical")


def echo_through(proxy, sock, data):
    sock.sendall(data)
    sock.settimeout(0.3)
    try:
        return sock.recv(65536)
    except TimeoutError:
        return None


def test_proxy_cuts_stalls_refuses_and_heals(_):
    with socket.create_server(("127.0.0.1", 0)) as listener, Proxy() as proxy:
        proxy.target = listener.getsockname()
        near = socket.create_connection(("127.0.0.1", proxy.port))
        far = listener.accept()[0]
        with near, far:
            near.sendall(b"hello")
            check_equal(far.recv(10), b"hello", "bytes through the proxy")
            link = proxy.links()[0]
            proxy.stall(link)
            check_equal(echo_through(proxy, near, b"held"), None, "an answer through a stalled link")
            far.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                check(not far.recv(10), "bytes came through a stalled link")
            proxy.heal()
            far.settimeout(WAIT_S)
            check_equal(far.recv(10), b"held", "bytes after healing")
            proxy.cut(link)
            for end in (near, far):
                end.settimeout(WAIT_S)
                try:
                    check(False, f"a cut link gave {end.recv(10)!r}")
                except ConnectionResetError:
                    pass
        proxy.refuse(True)
        with socket.create_connection(("127.0.0.1", proxy.port)) as sock, contextlib.suppress(ConnectionResetError):
            check_equal(sock.recv(10), b"", "bytes from a refused connection")
        check_equal(proxy.links(), [], "links while refusing")


def test_schedules_depend_on_the_seed_alone(_):
    plan = churn.schedule(5, 30, churn.WORKER_ACTIONS, 15, "kill_all")
    check_equal(plan, churn.schedule(5, 30, churn.WORKER_ACTIONS, 15, "kill_all"), "plan of the same seed")
    check(plan != churn.schedule(6, 30, churn.WORKER_ACTIONS, 15, "kill_all"), "two seeds, one plan")
    check_equal(
        [second for second, p in enumerate(plan) if not second <= p[0] < second + 1], [], "seconds without action"
    )
    check_equal(workload.mixed(50, 1, 100), workload.mixed(50, 1, 100), "requests of the same seed")


def test_longest_gap_is_seen(_):
    s = client.Completion(workload.CHAT, {})
    now = time.monotonic()
    s.times = [now, now + 0.1, now + 1.6, now + 1.7]
    check(abs(s.longest_gap_s() - 1.5) < 1e-6, f"gap {s.longest_gap_s()}")
    check(abs(s.longest_gap_s(since_s=now + 1.65) - 0.1) < 1e-6, f"gap {s.longest_gap_s(since_s=now + 1.65)}")


def test_mixed_build_runs_while_other_threads_start_programs(_):
    over = threading.Event()

    def start_programs():
        while not over.is_set():
            subprocess.run(["true"], check=True)

    threads = [threading.Thread(target=start_programs) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for _ in range(20):
            with tempfile.TemporaryDirectory() as directory:
                subprocess.run([cluster.mixed_build(directory), "--version"], stdout=subprocess.DEVNULL, check=True)
    finally:
        over.set()
        for t in threads:
            t.join()


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    sys.exit(tap.main(__doc__, TESTS))
