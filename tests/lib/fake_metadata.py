"""Metadata services of AWS, GCP and Azure as far as notices go, after the vendors' documents; with faults.

    with FakeAws() as m:
        m.interrupt(in_s=120)             # from now on spot/instance-action is there
        m.fault(status=401, times=5)      # the next answers
        m.fault(hang_s=30, path="/latest/meta-data/spot")

What a real service would refuse (no token, no Metadata header, a PUT with X-Forwarded-For) is refused, and kept in
`wrong` for the test to look at. `skew_s` sets the clock of the service's texts and Date headers apart from ours.
"""

import email.utils
import http.server
import json
import secrets
import socket
import threading
import time
import urllib.parse

HUGE = b"x" * (1 << 20)


class Answer(Exception):
    """Raised anywhere in a handler: what is sent."""

    def __init__(self, status, body=b"", headers=()):
        super().__init__(status)
        self.status, self.body, self.headers = status, body if isinstance(body, bytes) else body.encode(), dict(headers)


class Fault:
    """What happens to the next `times` requests whose path contains `path`."""

    def __init__(self, path="", times=1, status=None, body=b"", headers=(), hang_s=0.0, cut=None, reset=False):
        self.path, self.times, self.hang_s, self.cut, self.reset = path, times, hang_s, cut, reset
        self.answer = Answer(status, body, headers) if status else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        fake, length = self.server.fake, int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        fake.requests.append((time.monotonic(), self.command, self.path))
        fault = fake.take_fault(self.path)
        if fault and fault.hang_s:
            fake.stopping.wait(fault.hang_s)
        if fault and fault.reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        try:
            if fault and fault.answer:
                raise fault.answer
            fake.answer(self.command, url.path, dict(urllib.parse.parse_qsl(url.query)), self.headers, body)
            answer = Answer(500, "the fake gave no answer")
        except Answer as a:
            answer = a
        self.write(answer, fault.cut if fault else None)

    def write(self, answer, cut):
        """cut: so many bytes of the body are sent, and the connection is closed."""
        try:
            self.send_response_only(answer.status)
            self.send_header("Date", email.utils.formatdate(time.time() + self.server.fake.skew_s, usegmt=True))
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body if cut is None else answer.body[:cut])
        except OSError:
            self.close_connection = True
        if cut is not None:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a peer that went away


class Fake:
    """A server on a free port of 127.0.0.1 while the block lasts. `answer` (overridden) raises Answer."""

    def __init__(self):
        self.skew_s, self.requests, self.wrong, self._faults = 0.0, [], [], []
        self.lock, self.changed = threading.Lock(), threading.Condition()
        self.stopping = threading.Event()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.fake = self
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        with self.changed:
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, **kw):
        with self.lock:
            self._faults.append(Fault(**kw))

    def heal(self):
        with self.lock:
            self._faults.clear()

    def take_fault(self, path):
        with self.lock:
            for f in self._faults:
                if f.path in path and f.times > 0:
                    f.times -= 1
                    return f
        return None

    def refuse(self, status, why):
        """The answer of a real service to a request that it would not take."""
        self.wrong.append(why)
        raise Answer(status, why)

    def now(self):
        """Wall clock of the service."""
        return time.time() + self.skew_s

    def asked(self, part, since=0.0):
        return [r for r in self.requests if part in r[2] and r[0] >= since]


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class FakeAws(Fake):
    """IMDSv2. Tokens end by `expire()`; documents that are not set are 404."""

    instance = "i-0123456789abcdef0"

    def __init__(self):
        super().__init__()
        self.tokens, self.documents = set(), {"instance-id": self.instance}

    def expire(self):
        """Forgets all tokens, as a restarted service would."""
        with self.lock:
            self.tokens.clear()

    def interrupt(self, in_s, action="terminate"):
        """A spot interruption notice; the time is cut to a second, as in the service."""
        self.documents["spot/instance-action"] = json.dumps({"action": action, "time": iso(self.now() + in_s)})

    def answer(self, method, path, query, headers, body):
        if method == "PUT" and path == "/latest/api/token":
            self.answer_token(headers)
        if method != "GET":
            self.refuse(405, f"{method} {path}")
        with self.lock:
            known = headers.get("X-aws-ec2-metadata-token") in self.tokens
        if not known:
            raise Answer(401, "Unauthorized")
        document = self.documents.get(path.removeprefix("/latest/meta-data/"))
        raise Answer(200, document, {"Content-Type": "text/plain"}) if document else Answer(404, "404 - Not Found")

    def answer_token(self, headers):
        if "X-Forwarded-For" in headers:
            self.refuse(403, "a token for a proxy")
        ttl = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            self.refuse(400, f"a token of {ttl!r} seconds")
        token = secrets.token_urlsafe(40) + "=="
        with self.lock:
            self.tokens.add(token)
        raise Answer(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": ttl})


class FakeGcp(Fake):
    """computeMetadata/v1/instance with wait_for_change and ETags."""

    instance = "4711017235489123456"

    def __init__(self):
        super().__init__()
        self.values = {"id": self.instance, "preempted": "FALSE", "maintenance-event": "NONE"}

    def set(self, name, value):
        with self.changed:
            self.values[name] = value
            self.changed.notify_all()

    def etag(self, name):
        return f"{hash((name, self.values[name])) & 0xFFFFFFFFFFFFFFFF:016x}"

    def answer(self, method, path, query, headers, body):
        if headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in headers:
            self.refuse(403, f"{path} without Metadata-Flavor")
        name = path.removeprefix("/computeMetadata/v1/instance/")
        if method != "GET" or name not in self.values:
            raise Answer(404, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>", {"Metadata-Flavor": "Google"})
        with self.changed:
            if query.get("wait_for_change") == "true":
                self.changed.wait_for(
                    lambda: self.stopping.is_set() or self.etag(name) != query.get("last_etag"),
                    float(query.get("timeout_sec", 3600)),
                )
            value, etag = self.values[name], self.etag(name)
        raise Answer(200, value, {"ETag": etag, "Metadata-Flavor": "Google", "Content-Type": "application/text"})


class FakeAzure(Fake):
    """instance/compute and scheduledevents. `slow_first_s`: the first answer of scheduledevents takes so long."""

    instance = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    name = "gpu-vmss_7"

    def __init__(self):
        super().__init__()
        self.events, self.incarnation, self.started, self.slow_first_s, self.awake = [], 1, [], 0.0, False

    def publish(self, event_type="Preempt", in_s=30, resources=None, status="Scheduled", event_id=None):
        """Adds an event; returns its id."""
        event = {
            "EventId": event_id or f"C7061BAC-AFDC-4513-B24B-{secrets.token_hex(6).upper()}",
            "EventStatus": status,
            "EventType": event_type,
            "ResourceType": "VirtualMachine",
            "Resources": resources or [self.name],
            "NotBefore": email.utils.formatdate(self.now() + in_s, usegmt=True) if status == "Scheduled" else "",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        with self.lock:
            self.events.append(event)
            self.incarnation += 1
        return event["EventId"]

    def withdraw(self, event_id):
        with self.lock:
            self.events = [e for e in self.events if e["EventId"] != event_id]
            self.incarnation += 1

    def answer(self, method, path, query, headers, body):
        if headers.get("Metadata", "").lower() != "true" or "X-Forwarded-For" in headers:
            self.refuse(400, f"{path} without Metadata: true")
        if path == "/metadata/instance/compute":
            raise Answer(200, json.dumps({"vmId": self.instance, "name": self.name, "vmScaleSetName": "gpu-vmss"}))
        if path != "/metadata/scheduledevents" or query.get("api-version") != "2020-07-01":
            self.refuse(400, f"{path}?{query}")
        if method == "POST":
            self.answer_start(body)
        if not self.awake:
            self.stopping.wait(self.slow_first_s)
            self.awake = True
        with self.lock:
            document = {"DocumentIncarnation": self.incarnation, "Events": self.events}
            raise Answer(200, json.dumps(document), {"Content-Type": "application/json"})

    def answer_start(self, body):
        ids = [r["EventId"] for r in json.loads(body)["StartRequests"]]
        with self.lock:
            if not set(ids) <= {e["EventId"] for e in self.events}:
                raise Answer(400, '{"error": "unknown event"}')
            for e in self.events:
                if e["EventId"] in ids:
                    e.update(EventStatus="Started", NotBefore="")
            self.started += ids
        raise Answer(200)


class FakeSim(Fake):
    """The metadata service of the simulated cloud: notices by long poll."""

    instance = "sim-7"

    def __init__(self):
        super().__init__()
        self.notices = []

    def publish(self, kind, in_s=None, cancel=False):
        with self.changed:
            self.notices.append((time.monotonic() + (in_s or 0), {"kind": kind, "cancel": cancel}))
            self.changed.notify_all()

    def answer(self, method, path, query, headers, body):
        if path != f"/v1/instances/{self.instance}/notices":
            raise Answer(404)
        after = int(query["after"])
        with self.changed:
            self.changed.wait_for(lambda: self.stopping.is_set() or len(self.notices) > after, float(query["wait_s"]))
            new = [{**n, "deadline_in_s": max(0.0, at - time.monotonic())} for at, n in self.notices[after:]]
            document = {"sequence": len(self.notices), "notices": new}
        raise Answer(200, json.dumps(document))


class FakeAdmin(Fake):
    """The controller's admin listener as godwit-watch sees it: POST /admin/notice and GET /admin/workers."""

    def __init__(self, token=None):
        super().__init__()
        self.token, self.notices, self.workers, self.known = token, [], [], True

    def answer(self, method, path, query, headers, body):
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            raise Answer(401, '{"error": {}}')
        if (method, path) == ("GET", "/admin/workers"):
            raise Answer(200, json.dumps({"workers": self.workers}))
        if (method, path) != ("POST", "/admin/notice"):
            self.refuse(404, f"{method} {path}")
        if not self.known:
            raise Answer(404, '{"error": {}}')
        with self.changed:
            self.notices.append({**json.loads(body), "at_s": time.monotonic()})
            self.changed.notify_all()
        raise Answer(202, '{"status":"accepted"}')

    def wait(self, match, deadline_s, what):
        """The first notice for which match(notice) holds; TimeoutError after deadline_s."""
        with self.changed:
            found = lambda: next((n for n in self.notices if match(n)), None)  # noqa: E731
            if not self.changed.wait_for(found, deadline_s):
                raise TimeoutError(f"no {what} within {deadline_s} s; there are {self.notices}")
            return found()


if __name__ == "__main__":
    raise SystemExit("a library: see tests/e2e")
