"""A client that comes back: one stream over as many connections as it takes, each going on behind the last whole event.

    s = Resumable(path, body)            # sends Godwit-Resume: 1
    client.submit(s); … the connection breaks …
    client.submit(s.again(host_port))    # GET /v1/streams/{id}, Last-Event-ID

What the connections brought is in one place, as if it had been one: choices, usage, and how often each choice's role came.
"""

import collections
import json

import client


class Resumable(client.Completion):
    """A streamed completion whose client opted in. `first` is the stream's first connection, itself or an earlier one."""

    def __init__(self, path, body, first=None, last_id=None, headers=()):
        headers = dict(headers)
        if first is None:
            super().__init__(path, body, {"Godwit-Resume": "1", **headers})
        else:
            super().__init__(path, None, {**({"Last-Event-ID": last_id} if last_id else {}), **headers})
        self.first, self.last_id, self.asked = first or self, last_id, body
        self.key_headers = headers
        if first is None:
            self.roles, self.connections = collections.Counter(), 1
        else:
            self.choices, self.usage, self.id = first.choices, first.usage, first.id
            first.connections += 1

    def _event(self, event, now_s):
        super()._event(event, now_s)
        for line in event.split(b"\n"):
            if line.startswith(b"id: "):
                self.last_id = line[4:].decode()

    def on_data(self, data, now_s):
        if data != b"[DONE]":
            chunk = json.loads(data)
            for choice in chunk.get("choices", ()):
                if choice.get("delta", {}).get("role"):
                    self.first.roles[choice["index"]] += 1
            if chunk.get("usage") and self.usage:
                raise client.ProtocolError("usage came twice")
        super().on_data(data, now_s)
        self.first.usage, self.first.ended, self.first.id = self.usage, self.ended, self.id

    def stream_id(self):
        """Known from the response's head on."""
        return self.head.get("godwit-stream") or self.id or (self.first.head.get("godwit-stream") if self.first is not self else None)

    def again(self):
        """The next connection of this stream, to be submitted."""
        first = self.first
        return Resumable(f"/v1/streams/{self.stream_id()}", self.asked, first, self.last_id, self.key_headers)

    def wanted(self):
        prompt = self.asked.get("prompt")
        return self.asked.get("n", 1) * (len(prompt) if isinstance(prompt, list) and isinstance(prompt[0], (str, list)) else 1)

    def whole(self):
        """All connections together are a stream as it should be; the last one's error counts."""
        roles_once = all(n == 1 for n in self.first.roles.values())
        return (
            self.error is None
            and self.ended
            and roles_once
            and len(self.choices) == self.wanted()
            and all(c.finish for c in self.choices.values())
        )
