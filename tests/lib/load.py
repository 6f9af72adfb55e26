"""Load in a closed loop: so many streams open at any time, requests taken from a fixed list in a circle.

A list has an undisturbed run (`run_once`), whose streams are the reference; the same list under churn goes round until
the churn is over, so that the load lasts however fast the machine is, and each stream is compared with the reference of
its request.
"""

import threading
import time

import client
import compare
import tap

FIRST_TOKENS = 32  # max_tokens of a first round, which measures the machine


class Load:
    """Streams started so far: `streams`, a list of (index of the request, client.Completion)."""

    def __init__(self, http, requests, concurrency):
        self.http, self.requests, self.concurrency = http, requests, concurrency
        self.streams, self._limit = [], None  # None: in a circle without end
        self._lock = threading.Lock()  # _next runs in the client's thread

    def start(self, limit=None):
        """Opens the first `concurrency` streams; each that ends is followed by the next, `limit` in all."""
        self._limit = limit
        self.http.on_closed = self._next
        for _ in range(self.concurrency if limit is None else min(limit, self.concurrency)):
            self._submit()
        return self

    def _submit(self):
        index = len(self.streams) % len(self.requests)
        stream = client.Completion(*self.requests[index])
        self.streams.append((index, stream))
        self.http.submit(stream)

    def _next(self, stream):
        with self._lock:
            if self._limit is None or len(self.streams) < self._limit:
                self._submit()

    def stop(self):
        """Starts no more; what is open goes on."""
        with self._lock:
            if self._limit is None:
                self._limit = 0

    def ended(self):
        """Has every stream that was to be started closed?"""
        with self._lock:
            return len(self.streams) >= (self._limit or 0) and all(s.closed for _, s in self.streams)

    def finish(self, deadline_s):
        """Starts no more, waits for what is open; TimeoutError after deadline_s."""
        self.stop()
        self.http.wait_for(
            self.ended,
            deadline_s,
            lambda: f"{sum(not s.closed for _, s in list(self.streams))} of "
            f"{len(self.streams)} streams are still open",
        )
        self.http.on_closed = None

    def tokens(self):
        return sum(s.tokens() for _, s in list(self.streams))

    def judge(self, references):
        """compare.Verdict over all streams; `references` maps a request's index to its undisturbed stream."""
        return compare.judge(
            {f"request {i} (stream {k})": references[i] for k, (i, _) in enumerate(self.streams)},
            {f"request {i} (stream {k})": s for k, (i, s) in enumerate(self.streams)},
        )


def wait_progress(http, streams, tokens, deadline_s):
    """Until all have been answered and have so many tokens more than now, together: had each to, those of a worker that a busy
    machine favours would have ended by then."""
    streams = list(streams)
    least = sum(s.tokens() for s in streams) + tokens * len(streams)

    def there():
        answered = all(s.closed or s.status == 200 for s in streams)
        return answered and sum(s.tokens() for s in streams) >= least

    http.wait_for(lambda: there() or all(s.closed for s in streams), deadline_s)


def run_once(http, requests, concurrency, deadline_s):
    """Runs the list once; {index: stream}. AssertionError if any stream is not whole."""
    load = Load(http, requests, concurrency).start(len(requests))
    load.finish(deadline_s)
    for index, stream in load.streams:
        if not stream.whole():
            raise AssertionError(
                f"undisturbed request {index} is not whole: error={stream.error} status={stream.status}"
            )
    return dict(load.streams)


def run_lasting(http, make, concurrency, lasts_s, most_tokens, deadline_s, tokens=0):
    """Runs make(max_tokens) once, as many tokens as let it last about lasts_s here: (requests, {index: stream}).

    What happens to streams under way needs streams that are under way, on a machine ten times as fast, too. `tokens`, from
    the note of an earlier run, replays that run's requests; 0: fitted to the machine.
    """
    trying = tokens or FIRST_TOKENS
    while True:
        requests, start = make(trying), time.monotonic()
        streams = run_once(http, requests, concurrency, deadline_s)
        taken = time.monotonic() - start
        count = sum(s.tokens() for s in streams.values())
        tap.note(f"undisturbed: max_tokens {trying}, {count} tokens in {taken:.1f} s")
        if tokens or taken > lasts_s / 2 or trying == most_tokens:
            return requests, streams
        trying = min(int(trying * lasts_s / taken) + 1, most_tokens)


def add_tokens(ap):
    """The flag of a test that runs lasting requests."""
    ap.add_argument("--tokens", type=int, default=0, help="max_tokens of the requests (default: fitted to the machine)")


def note_replay(args):
    tap.note(f"replay with --seed {args.seed} and --tokens as the last max_tokens below says")
