"""Several hosts on one machine: network namespaces, and a router between them that can keep two of them apart.

    with netns.create(3) as net:
        a, b, c = net.hosts
        p = a.popen(["build/asan/godwit-worker", ...])      # dies with this process
        with b.inside():                                    # this thread, and what it starts, is on host b
            s = socket.create_connection((a.address, port))
        net.partition(a, b)     # their packets vanish and nobody is told: a switch that died; both still reach c
        net.heal(a, b)          # or net.heal(): all of them
        with net.overheard() as flows:                      # what crosses the router meanwhile
            ...                                             # {(address, port, address, port): bytes of TCP}

        host 0               host 1               host 2
     10.98.0.2/24         10.98.1.2/24         10.98.2.2/24
         eth0                 eth0                 eth0
          │                    │                    │
    10.98.0.1/24         10.98.1.1/24         10.98.2.1/24      router: forwards; a pair that is kept apart has
          v0                   v1                   v2          two `ip rule`s "blackhole", one per direction

No namespace has a name: each lives by a descriptor of this process and by the processes in it, so even a killed test
leaves none behind. Nothing outside of them is changed. The end of the block kills what popen started and fails if
anybody is still inside.

Needs root, iproute2 and setpriv: create raises tap.Skip where something is missing, with the reason.
"""

import contextlib
import ctypes
import glob
import os
import shutil
import socket
import subprocess
import threading
import time

from tap import Skip

CLONE_NEWNET = 0x40000000
HOSTS_MAX = 64
ETH_P_IP, SO_RCVBUFFORCE = 0x0800, 33
EAR_BYTES = 64 << 20  # packets that wait to be looked at
OVERHEARD_MAX = 512 << 20
END_S = 10.0  # for those inside to be gone
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"]
OWN_NAMESPACE = "/proc/thread-self/ns/net"  # of the calling thread: threads may be on different hosts

_libc = ctypes.CDLL(None, use_errno=True)


def missing():
    """Why hosts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("setpriv", "util-linux")):
        if not shutil.which(program):
            return f"network namespaces need {program} ({package})"
    return None


def users(inode):
    """Who keeps a namespace alive: (pid, "in it" or "descriptor") of each thread in it and each descriptor of it."""
    found, name = set(), f"net:[{inode}]"
    for pattern, how in (("/proc/[0-9]*/task/*/ns/net", "in it"), ("/proc/[0-9]*/fd/*", "descriptor")):
        for path in glob.iglob(pattern):
            with contextlib.suppress(OSError):
                if os.readlink(path) == name:
                    found.add((int(path.split("/")[2]), how))
    return sorted(found)


def wait_unused(inodes, seconds):
    """Waits until nobody uses any of the namespaces; returns who still does."""
    end = time.monotonic() + seconds
    while True:
        left = [user for inode in inodes for user in users(inode)]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.02)


def _checked(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Namespace:
    """A network namespace without a name, held by a descriptor."""

    def __init__(self):
        self.fd, failure = None, []

        def make():  # on a thread of its own, which takes its new namespace with it when it ends
            try:
                _checked(_libc.unshare(CLONE_NEWNET), "unshare")
                self.fd = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as e:
                failure.append(e)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failure:
            raise Skip(f"network namespaces cannot be made here: {failure[0]}")
        self.inode = os.fstat(self.fd).st_ino
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def inside(self):
        """Moves the calling thread in for the length of the block. Sockets stay where they were made; processes and
        threads that it starts are born inside."""
        back = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            try:
                yield self
            finally:
                _checked(_libc.setns(back, CLONE_NEWNET), "setns back")
        finally:
            os.close(back)

    def ip(self, *commands):
        """Runs commands of ip(8) inside."""
        with self.inside():
            p = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True)
        if p.returncode != 0:
            raise OSError(f"ip: {p.stderr.strip()} (of: {'; '.join(commands)})")

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Host(Namespace):
    """One of a Net's hosts. `address` is where the others find it."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.address, self.gateway = f"10.98.{number}.2", f"10.98.{number}.1"
        self._processes = []

    def popen(self, argv, **options):
        """subprocess.Popen on this host; the process is killed when the calling thread ends, and at the end of the Net."""
        with self.inside():
            process = subprocess.Popen(DIE_WITH_PARENT + list(argv), **options)
        self._processes.append(process)
        return process

    def kill_all(self):
        """Kills what popen started."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._processes = []


def _listen(ear, flows, over):
    room = OVERHEARD_MAX
    while not over.is_set() and room > 0:
        try:
            packet, (_, _, kind, _, _) = ear.recvfrom(1 << 17)
        except TimeoutError:
            continue
        if kind == socket.PACKET_OUTGOING or packet[9] != socket.IPPROTO_TCP:
            continue  # each packet comes in once, and goes out once
        head = (packet[0] & 15) * 4
        data = packet[head + (packet[head + 12] >> 4) * 4 : int.from_bytes(packet[2:4], "big") or None]
        ports = int.from_bytes(packet[head : head + 2], "big"), int.from_bytes(packet[head + 2 : head + 4], "big")
        key = (socket.inet_ntoa(packet[12:16]), ports[0], socket.inet_ntoa(packet[16:20]), ports[1])
        flows.setdefault(key, bytearray()).extend(data)
        room -= len(data)


class Net:
    """Hosts that reach each other through a router. Methods may be called from any thread, one at a time."""

    def __init__(self, count):
        self.hosts, self._apart, self._router = [], set(), None
        try:
            self._router = Namespace()
            self._open_router()
            for number in range(count):
                self._add(Host(number))
        except BaseException:
            self._close()
            raise

    def _open_router(self):
        self._router.ip("link set lo up")
        try:
            with self._router.inside(), open("/proc/sys/net/ipv4/ip_forward", "w") as f:
                f.write("1")
        except OSError as e:
            raise Skip(f"a namespace's packets cannot be forwarded here: {e}") from e

    def _add(self, host):
        self.hosts.append(host)
        near = f"v{host.number}"
        self._router.ip(
            f"link add {near} type veth peer name eth0 netns {host.path}",
            f"address add {host.gateway}/24 dev {near}",
            f"link set {near} up",
        )
        host.ip(
            "link set lo up",
            f"address add {host.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {host.gateway}",
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        left = self.destroy()
        if left and kind is None:
            raise RuntimeError(f"still on a host that is gone: {left}")

    def _rules(self, action, a, b):
        self._router.ip(
            *(f"rule {action} pref 10 from {x.address} to {y.address} blackhole" for x, y in ((a, b), (b, a)))
        )

    def partition(self, a, b):
        """Lets no packet through between two hosts, in either direction, and tells neither. Idempotent."""
        pair = frozenset((a, b))
        if pair not in self._apart:
            self._rules("add", a, b)
            self._apart.add(pair)

    def heal(self, a=None, b=None):
        """Ends the partition of two hosts, or all of them. Idempotent."""
        for pair in [frozenset((a, b))] if a else list(self._apart):
            if pair in self._apart:
                self._rules("del", *pair)
                self._apart.remove(pair)

    @contextlib.contextmanager
    def overheard(self):
        """Yields {(from address, port, to address, port): bytearray}, to which the payload of TCP is added as it crosses
        the router, until the end of the block. As an eavesdropper hears it: in the order of the packets, OVERHEARD_MAX bytes
        at most."""
        with self._router.inside():
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        with ear:
            ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, EAR_BYTES)
            ear.settimeout(0.05)
            flows, over = {}, threading.Event()
            thread = threading.Thread(target=_listen, args=(ear, flows, over), daemon=True)
            thread.start()
            try:
                yield flows
            finally:
                over.set()
                thread.join()

    def _close(self):
        for host in self.hosts:
            host.kill_all()
        namespaces = self.hosts + [self._router] if self._router else self.hosts
        for namespace in namespaces:
            namespace.close()
        return [namespace.inode for namespace in namespaces]

    def inodes(self):
        """What /proc calls the namespaces."""
        return [namespace.inode for namespace in self.hosts + [self._router]]

    def destroy(self):
        """Kills what popen started and lets go of the namespaces; returns who is still in one after END_S."""
        return wait_unused(self._close(), END_S)


def create(count):
    """A Net of `count` hosts."""
    if not 1 <= count <= HOSTS_MAX:
        raise ValueError(f"1 to {HOSTS_MAX} hosts, not {count}")
    reason = missing()
    if reason:
        raise Skip(reason)
    return Net(count)


if __name__ == "__main__":
    import sys

    sys.exit("a library: see tests/e2e/test_netns.py")
