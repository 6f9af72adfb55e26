#!/usr/bin/env python3
"""Hosts made of network namespaces: they reach each other, a partition stops them in silence, and nothing is left.

Needs root and iproute2; skips where they are missing.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys

LIB = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib")
sys.path.insert(0, LIB)
import netns  # noqa: E402
import tap  # noqa: E402
from tap import check, check_equal  # noqa: E402

WAIT_S = 20.0  # what should not pass: TCP resends within a second or two of a heal
QUIET_S = 1.0  # nothing came through for so long

# A test that is killed in the middle: it says which namespaces it has, and which process it started.
VICTIM = f"""
import sys, time
sys.path.insert(0, {LIB!r})
import netns
net = netns.create(2)
child = net.hosts[1].popen(["sleep", "1000"])
print(*net.inodes(), flush=True)
time.sleep(1000)
"""


class Wire:
    """A TCP connection between two hosts, and the listener that it came to."""

    def __init__(self, stack, a, b):
        with b.inside():
            self.listener = stack.enter_context(socket.create_server((b.address, 0)))
        self.a = stack.enter_context(self.dial(a, WAIT_S))
        self.listener.settimeout(WAIT_S)
        self.b, self.peer = self.listener.accept()
        stack.enter_context(self.b)
        self.b.settimeout(WAIT_S)

    def dial(self, host, seconds):
        with host.inside():
            return socket.create_connection(self.listener.getsockname(), timeout=seconds)

    def ping(self, text):
        """There and back."""
        self.a.sendall(text)
        check_equal(self.b.recv(100), text, "what came there")
        self.b.sendall(text)
        check_equal(self.a.recv(100), text, "what came back")


def times_out(act):
    """Does it take longer than its limit, rather than fail at once?"""
    try:
        act()
    except TimeoutError:
        return True
    return False


def test_hosts_reach_each_other_by_their_own_addresses(net):
    with contextlib.ExitStack() as stack:
        for a, b in ((0, 1), (1, 2), (2, 0)):
            wire = Wire(stack, net.hosts[a], net.hosts[b])
            wire.ping(b"ping")
            check_equal(wire.peer[0], net.hosts[a].address, "the peer's address")


def test_hosts_are_apart_from_the_machine(net):
    with net.hosts[0].inside():
        server = socket.create_server(("127.0.0.1", 0))
    with server:
        try:
            socket.create_connection(server.getsockname(), timeout=WAIT_S).close()
        except ConnectionRefusedError:
            return
        raise tap.Failure("the machine's loopback leads into a host")


def test_process_started_on_a_host_is_there(net):
    process = net.hosts[2].popen(["ip", "address"], stdout=subprocess.PIPE, text=True)
    addresses, _ = process.communicate(timeout=WAIT_S)
    check(net.hosts[2].address in addresses, "it has the host's address")
    check(net.hosts[1].address not in addresses, "and no other's")


def test_partition_stops_two_hosts_in_silence_and_heals(net):
    a, b, c = net.hosts
    with contextlib.ExitStack() as stack:
        wire, aside = Wire(stack, a, b), Wire(stack, a, c)
        net.partition(a, b)
        net.partition(b, a)  # the same pair: once is enough
        wire.a.sendall(b"held")
        wire.b.settimeout(QUIET_S)
        check(times_out(lambda: wire.b.recv(100)), "a byte came through a partition")
        check(times_out(lambda: wire.dial(a, QUIET_S).close()), "a connection was made through a partition")
        aside.ping(b"aside")
        Wire(stack, b, c).ping(b"beside")
        net.heal(a, b)
        wire.b.settimeout(WAIT_S)
        check_equal(wire.b.recv(100), b"held", "what was held back")
        wire.ping(b"again")
        wire.dial(a, WAIT_S).close()


def test_heal_without_names_ends_all_partitions(net):
    a, b, c = net.hosts
    with contextlib.ExitStack() as stack:
        first, second = Wire(stack, a, b), Wire(stack, b, c)
        net.partition(a, b)
        net.partition(b, c)
        net.heal()
        net.heal()
        first.ping(b"one")
        second.ping(b"two")


def test_destroy_leaves_nothing(_):
    with netns.create(2) as net:
        inodes = net.inodes()
        process = net.hosts[0].popen(["sleep", "1000"])
        check(all(netns.users(i) for i in inodes), "namespaces in use are found")
    check(process.poll() is not None, "its process was killed")
    check_equal([netns.users(i) for i in inodes], [[]] * 3, "users of namespaces that are gone")


def test_destroy_finds_who_is_still_inside(_):
    net = netns.create(1)
    with net.hosts[0].inside():
        stray = subprocess.Popen(["sleep", "1000"])
    try:
        found = [user for inode in net.inodes() for user in netns.users(inode)]
        check((stray.pid, "in it") in found, "a process that was started past popen is found")
    finally:
        stray.kill()
        stray.wait()
        check_equal(net.destroy(), [], "left")


def test_killed_test_leaves_nothing(_):
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True)
    try:
        inodes = [int(word) for word in victim.stdout.readline().split()]
        check_equal(len(inodes), 3, "namespaces")
        check(all(netns.users(i) for i in inodes), "they are in use")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    check_equal(netns.wait_unused(inodes, WAIT_S), [], "users of a killed test's namespaces")
    with open("/proc/self/mountinfo") as f:
        mounts = f.read()
    check(not any(f"net:[{i}]" in mounts for i in inodes), "a namespace is mounted")


if __name__ == "__main__":
    sys.exit(
        tap.main(
            __doc__,
            [
                test_hosts_reach_each_other_by_their_own_addresses,
                test_hosts_are_apart_from_the_machine,
                test_process_started_on_a_host_is_there,
                test_partition_stops_two_hosts_in_silence_and_heals,
                test_heal_without_names_ends_all_partitions,
                test_destroy_leaves_nothing,
                test_destroy_finds_who_is_still_inside,
                test_killed_test_leaves_nothing,
            ],
            setup=lambda args: netns.create(3),
        )
    )
