"""A TCP proxy that plays a bad network: it cuts links, stalls them, refuses new ones, and heals.

    with Proxy() as p:              # p.endpoint is what the workers dial
        p.target = ("127.0.0.1", port)
        p.cut(p.links()[0])         # both ends see a reset
        p.stall(p.links()[1])       # nothing gets through, nobody is told: a cable pulled
        p.refuse(True)              # new connections are reset
        p.heal()                    # stalled links flow again, new ones are let in

One thread, one selector. Bytes are never lost or reordered on a link that lives: the ends see what TCP would show them.
"""

import contextlib
import random
import selectors
import socket
import struct
import threading

PIECE_BYTES = 1 << 16
SERVER_PORTS = (15000, 30000)
HELD_MAX = 1 << 20  # bytes held per direction before reading stops, as a full socket buffer would


def reset_on_close(sock):
    """Makes close() send a reset instead of an orderly end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Link:
    """One proxied connection: two sockets, and the bytes on their way from each to the other."""

    def __init__(self, near, far):
        self.ends = (near, far)
        self.held = {near: b"", far: b""}  # bytes to be written to that end
        self.stalled = False

    def other(self, end):
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class Proxy:
    """Listens on a free port of 127.0.0.1; forwards to `target`. Methods may be called from any thread."""

    def __init__(self):
        self.target = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"
        self._selector, self._lock = selectors.DefaultSelector(), threading.RLock()
        self._links, self._refusing, self._stopping = [], False, False
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stopping = True
        self._thread.join()
        with self._lock:
            for link in list(self._links):
                self.cut(link)
        self._listener.close()
        self._selector.close()

    def target_port(self):
        """Chooses a port on which nothing listens, to be given to the server, and makes it the target.

        Outside the range from which the system takes ports for outgoing connections, so that it stays free.
        """
        while True:
            port = random.SystemRandom().randrange(*SERVER_PORTS)
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                self.target = ("127.0.0.1", port)
                return port

    def links(self):
        """The links that live, oldest first."""
        with self._lock:
            return list(self._links)

    def cut(self, link):
        """Resets both ends of the link."""
        self._drop(link, reset=True)

    def stall(self, link):
        """Lets nothing through in either direction until heal()."""
        with self._lock:
            if link in self._links:
                link.stalled = True
                self._watch(link)

    def refuse(self, refusing):
        """Resets every new connection while on."""
        self._refusing = refusing

    def heal(self):
        """Undoes stall and refuse."""
        with self._lock:
            self._refusing = False
            for link in self._links:
                link.stalled = False
                self._watch(link)

    def _drop(self, link, reset):
        with self._lock:
            if link not in self._links:
                return
            self._links.remove(link)
            for end in link.ends:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(end)
                if reset:
                    reset_on_close(end)
                end.close()

    def _run(self):
        while not self._stopping:
            for key, mask in self._selector.select(0.05):
                with self._lock:
                    if key.data is None:
                        self._accept()
                    elif key.data in self._links:
                        self._pump(key.data, key.fileobj, mask)

    def _accept(self):
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        try:
            if self._refusing or self.target is None:
                raise ConnectionRefusedError
            far = socket.create_connection(self.target, timeout=5)
        except OSError:
            reset_on_close(near)
            near.close()
            return
        link = Link(near, far)
        for end in link.ends:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(link)
        self._watch(link)

    def _watch(self, link):
        """Registers what each end waits for now."""
        for end in link.ends:
            mask = 0
            if not link.stalled:
                mask |= selectors.EVENT_READ if len(link.held[link.other(end)]) < HELD_MAX else 0
                mask |= selectors.EVENT_WRITE if link.held[end] else 0
            registered = end in self._selector.get_map()
            if mask and registered:
                self._selector.modify(end, mask, link)
            elif mask:
                self._selector.register(end, mask, link)
            elif registered:
                self._selector.unregister(end)

    def _pump(self, link, end, mask):
        """Moves bytes that are ready; an end that closed or broke takes the link down once all was passed on."""
        if link.stalled:
            return
        try:
            if mask & selectors.EVENT_WRITE:
                link.held[end] = link.held[end][end.send(link.held[end]) :]
            if mask & selectors.EVENT_READ:
                data = end.recv(PIECE_BYTES)
                if not data:
                    self._flush(link, link.other(end))
                    self._drop(link, reset=False)
                    return
                link.held[link.other(end)] += data
        except BlockingIOError:
            pass
        except OSError:
            self.cut(link)
            return
        self._watch(link)

    @staticmethod
    def _flush(link, end):
        """Last words of a peer that closed in order."""
        end.settimeout(1)
        with contextlib.suppress(OSError):
            end.sendall(link.held[end])
