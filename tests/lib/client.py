"""A streaming client for hundreds of concurrent completions in one thread, which records all that a client can see.

    client = Client(host, port); client.start()
    s = client.submit(Completion("/v1/chat/completions", {"messages": [...], "stream": True}))
    client.wait([s], deadline_s=30);  s.error, s.result(), s.times

Raw sockets under one selector: an event costs some tens of microseconds. HTTP is read strictly, because the framing is
part of what is tested: whatever is not as RFC 9112 (chunked coding) and DESIGN part 8 (events) say becomes the stream's
error. Stream objects are written by the client's thread only; others read them.
"""

import collections
import http.client
import json
import selectors
import socket
import threading
import time

RECV_BYTES = 1 << 16
HEAD_MAX = 1 << 16
CONNECT_S = 30.0


class ProtocolError(Exception):
    """The server sent what HTTP or the event format does not allow."""


class Body:
    """Takes a response apart as it arrives: feed(bytes) → body bytes; `head`, `status`, `ended` fill up meanwhile."""

    def __init__(self):
        self.status, self.head, self.ended = None, {}, False
        self._raw, self._left, self._mode = b"", 0, "head"

    def feed(self, data):
        self._raw += data
        out = []
        while not self.ended and self._step(out):
            pass
        if self.ended and self._raw:
            raise ProtocolError(f"bytes behind the response's end: {self._raw[:80]!r}")
        return b"".join(out)

    def close(self):
        """The peer closed: fine only where the body says that it is whole."""
        if self._mode == "close":
            self.ended = True
        if not self.ended:
            raise ProtocolError(f"connection closed inside the {self._mode}")

    def _step(self, out):
        """Consumes one element of the coding; False when more bytes are needed."""
        return getattr(self, "_" + self._mode)(out)

    def _line(self):
        end = self._raw.find(b"\r\n")
        if end < 0:
            return None
        line, self._raw = self._raw[:end], self._raw[end + 2 :]
        return line

    def _head(self, out):
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > HEAD_MAX:
                raise ProtocolError("endless response head")
            return False
        lines, self._raw = self._raw[:end].decode("latin-1").split("\r\n"), self._raw[end + 4 :]
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ProtocolError(f"not a status line: {lines[0]!r}")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.head[name.strip().lower()] = value.strip()
        self.status = int(parts[1])
        if self.status == 100:
            return True
        if self.head.get("transfer-encoding", "").lower() == "chunked":
            self._mode = "size"
        elif "content-length" in self.head:
            self._left, self._mode = int(self.head["content-length"]), "fixed"
        else:
            self._mode = "close"
        return True

    def _fixed(self, out):
        piece, self._raw = self._raw[: self._left], self._raw[self._left :]
        self._left -= len(piece)
        out.append(piece)
        self.ended = self._left == 0
        return False

    def _close(self, out):
        out.append(self._raw)
        self._raw = b""
        return False

    def _size(self, out):
        line = self._line()
        if line is None:
            return False
        self._left = int(line.split(b";")[0], 16)
        self._mode = "chunk" if self._left else "trailer"
        return True

    def _chunk(self, out):
        if len(self._raw) < self._left + 2:
            return False
        if self._raw[self._left : self._left + 2] != b"\r\n":
            raise ProtocolError("a chunk is longer than it says")
        out.append(self._raw[: self._left])
        self._raw, self._mode = self._raw[self._left + 2 :], "size"
        return True

    def _trailer(self, out):
        line = self._line()
        if line is None:
            return False
        self.ended = line == b""
        return not self.ended


class EventStream:
    """One request whose answer is an event stream; subclasses take the events."""

    def __init__(self, path, body=None, headers=()):
        self.path, self.body, self.headers = path, body, dict(headers)
        self.status, self.head, self.error = None, {}, None
        self.closed = False  # nothing more will come
        self.ended = False  # [DONE] was seen
        self.sent_s = self.closed_s = 0.0  # monotonic
        self.times = []  # arrival of each event
        self.pings = 0
        self._http, self._text = Body(), b""

    def request_bytes(self, host):
        payload = b"" if self.body is None else json.dumps(self.body).encode()
        head = {"Host": host, "Accept": "text/event-stream", "Connection": "close", **self.headers}
        if self.body is not None:
            head.update({"Content-Type": "application/json", "Content-Length": str(len(payload))})
        lines = [f"{'GET' if self.body is None else 'POST'} {self.path} HTTP/1.1"] + [
            f"{k}: {v}" for k, v in head.items()
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload

    def feed(self, data, now_s):
        """Bytes from the socket. Raises ProtocolError (or what a subclass finds wrong)."""
        self._text += self._http.feed(data)
        self.status, self.head = self._http.status, self._http.head
        if self.status is None or self.status != 200:
            return
        *events, self._text = self._text.split(b"\n\n")
        for event in events:
            self._event(event, now_s)

    def feed_end(self):
        """The socket was closed by the server."""
        self._http.close()
        if self.status != 200:
            raise ProtocolError(f"status {self.status}: {self._text[:300].decode(errors='replace')}")
        if self._text:
            raise ProtocolError(f"a half event at the end: {self._text[:80]!r}")

    def complete(self):
        """All was received; the socket may be closed."""
        return self._http.ended

    def _event(self, event, now_s):
        if event.startswith(b":"):
            self.pings += 1
            return
        for line in event.split(b"\n"):
            if line.startswith(b"data: "):
                self.times.append(now_s)
                self.on_data(line[6:], now_s)
            elif not line.startswith((b"id: ", b"event: ")):
                raise ProtocolError(f"not an event line: {line[:80]!r}")

    def on_data(self, data, now_s):
        raise NotImplementedError


class Choice:
    """What came for one index: pieces of text, one record per token (where logprobs were asked for), and its end."""

    __slots__ = ("pieces", "records", "finish")

    def __init__(self):
        self.pieces, self.records, self.finish = [], [], None

    @property
    def text(self):
        return "".join(self.pieces)


def chat_records(logprobs):
    """Records (token, logprob, bytes, ((token, logprob), ...)) of a chat choice's `logprobs`."""
    return [
        (
            e["token"],
            e["logprob"],
            tuple(e["bytes"] or ()),
            tuple((t["token"], t["logprob"]) for t in e.get("top_logprobs") or ()),
        )
        for e in (logprobs or {}).get("content") or ()
    ]


def text_records(logprobs):
    """Records (token, logprob, text offset, ((token, logprob), ...)) of a completion choice's `logprobs`."""
    if not logprobs:
        return []
    tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
    columns = zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["text_offset"], tops)
    return [(token, lp, offset, tuple(sorted((top or {}).items()))) for token, lp, offset, top in columns]


class Completion(EventStream):
    """A streamed chat completion or completion."""

    def __init__(self, path, body, headers=()):
        super().__init__(path, body, headers)
        self.id, self.usage, self.choices = None, None, collections.defaultdict(Choice)
        self.first_s = 0.0  # arrival of the first text

    def on_data(self, data, now_s):
        if self.ended:
            raise ProtocolError(f"an event behind [DONE]: {data[:80]!r}")
        if data == b"[DONE]":
            self.ended = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise ProtocolError(f"error event: {chunk['error']}")
        if self.id not in (None, chunk["id"]):
            raise ProtocolError(f"id changed from {self.id} to {chunk['id']}")
        self.id = chunk["id"]
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            self._choice(choice, now_s)

    def _choice(self, got, now_s):
        choice = self.choices[got["index"]]
        if choice.finish is not None:
            raise ProtocolError(f"choice {got['index']} goes on behind its finish_reason")
        text = got["text"] if "text" in got else got["delta"].get("content")
        if text:
            choice.pieces.append(text)
            self.first_s = self.first_s or now_s
        logprobs = got.get("logprobs")
        if logprobs:
            choice.records += text_records(logprobs) if "text" in got else chat_records(logprobs)
        choice.finish = got.get("finish_reason")

    def feed_end(self):
        super().feed_end()
        if not self.ended:
            raise ProtocolError("the stream ended without [DONE]")

    def whole(self):
        """Ended as a stream should: every choice by a finish_reason, then [DONE], no error."""
        wanted = self.body.get("n", 1) * (
            len(self.body["prompt"])
            if isinstance(self.body.get("prompt"), list) and isinstance(self.body["prompt"][0], (str, list))
            else 1
        )
        return (
            self.error is None
            and self.ended
            and len(self.choices) == wanted
            and all(c.finish for c in self.choices.values())
        )

    def result(self):
        """What must be identical whatever happened to the workers: content, token records, finish reasons, usage."""
        usage = {k: v for k, v in (self.usage or {}).items() if k.endswith("_tokens")}
        return {
            "choices": [(i, c.text, tuple(c.records), c.finish) for i, c in sorted(self.choices.items())],
            "usage": usage,
        }

    def tokens(self):
        """Tokens that were received, counted by records; by usage where no records were asked for."""
        counted = sum(len(c.records) for c in list(self.choices.values()))
        return counted or (self.usage or {}).get("completion_tokens", 0)

    def longest_gap_s(self, since_s=0.0, until_s=float("inf")):
        """Longest time between two events of which a part lies in [since, until]."""
        times = list(self.times)
        return max((b - a for a, b in zip(times, times[1:]) if b >= since_s and a <= until_s), default=0.0)


class Client:
    """The selector loop. All methods may be called from any thread but the client's own."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._jobs, self._changed, self._stopping = collections.deque(), threading.Condition(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sockets = {}
        self.on_closed = None  # called in the client's thread with each stream that has closed; may submit others

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        """Closes every socket and joins the thread."""
        self._stopping = True
        self._wake()
        self._thread.join(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def submit(self, stream):
        """Opens a connection of its own for the stream and sends its request; returns the stream."""
        self._jobs.append((self._open, stream))
        self._wake()
        return stream

    def cancel(self, stream):
        """Closes the stream's connection as a client that has gone."""
        self._jobs.append((lambda s: self._close(s, "cancelled"), stream))
        self._wake()

    def wait(self, streams, deadline_s, what="streams"):
        """Waits until all have closed; raises TimeoutError after deadline_s seconds."""
        self.wait_for(
            lambda: all(s.closed for s in streams),
            deadline_s,
            lambda: f"{sum(not s.closed for s in streams)} of {len(streams)} {what} are still open",
        )

    def wait_for(self, condition, deadline_s, what=lambda: "condition"):
        """Waits until condition() holds; it is looked at after every batch of events."""
        end = time.monotonic() + deadline_s
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"after {deadline_s:.0f} s: {what()}")
                self._changed.wait(min(left, 0.25))

    def _wake(self):
        try:
            self._wake_w.send(b"x")
        except OSError:
            pass

    def _run(self):
        while not self._stopping:
            for key, mask in self._selector.select(1.0):
                self._ready(key, mask)
            while self._jobs:
                job, stream = self._jobs.popleft()
                job(stream)
            with self._changed:
                self._changed.notify_all()
        for stream in list(self._sockets):
            self._close(stream, "client stopped")
        self._selector.close()
        self._wake_r.close()
        self._wake_w.close()

    def _open(self, stream):
        stream.sent_s = time.monotonic()
        sock = socket.socket()
        self._sockets[stream] = sock
        try:
            sock.settimeout(CONNECT_S)
            sock.connect((self.host, self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(stream.request_bytes(f"{self.host}:{self.port}"))
        except OSError as e:
            self._close(stream, f"cannot send: {e}")
            return
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, stream)

    def _ready(self, key, mask):
        if key.data is None:
            self._wake_r.recv(4096)
            return
        stream = key.data
        try:
            data = key.fileobj.recv(RECV_BYTES)
            if data:
                stream.feed(data, time.monotonic())
            if not data or stream.complete():
                stream.feed_end()
                self._close(stream, None)
        except BlockingIOError:
            pass
        except (OSError, ProtocolError) as e:
            self._close(stream, str(e))
        except (ValueError, KeyError, TypeError) as e:
            self._close(stream, f"unreadable event: {e!r}")

    def _close(self, stream, error):
        sock = self._sockets.pop(stream, None)
        if sock is None:
            return
        try:
            self._selector.unregister(sock)
        except KeyError:
            pass
        sock.close()
        stream.error, stream.closed_s, stream.closed = error, time.monotonic(), True
        if self.on_closed:
            self.on_closed(stream)


def call(host, port, method, path, body=None, headers=(), timeout_s=60.0):
    """One plain request on a connection of its own; returns (status, headers, parsed JSON or text)."""
    conn = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        payload = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        conn.request(
            method,
            path,
            payload,
            {**({"Content-Type": "application/json"} if payload is not None else {}), **dict(headers)},
        )
        response = conn.getresponse()
        raw = response.read()
        head = {k.lower(): v for k, v in response.getheaders()}
        text = raw.decode(errors="replace")
        return (
            response.status,
            head,
            json.loads(text) if head.get("content-type", "").startswith("application/json") else text,
        )
    finally:
        conn.close()
