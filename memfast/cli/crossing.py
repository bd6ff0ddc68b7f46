"""What crosses between two processes in ``memfast demo``: by a channel, by a pipe, how fast."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress

import memfast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

BLOCK = 64 * 1024  # bytes of the file in a message
RING = 256 * 1024  # bytes in the channel: stays in the second-level cache
SMALL = 64  # bytes of a small message
ROUNDS = 5  # of the file
TRIPS = 20_000
BATCH, BATCHES = 1000, 400
WAIT = 20  # seconds after which a demonstration that hangs has failed


class Failed(Exception):
    """Something that the demonstration claims did not hold."""


class Side:
    """What one process does with a lane: send, receive, receive into a buffer."""

    __slots__ = ("into", "recv", "send")

    def __init__(
        self, send: Callable[[Any], Any], recv: Callable[[], bytes], into: Callable[[Any], int]
    ) -> None:
        self.send = send
        self.recv = recv
        self.into = into


class Ours:
    """A channel there and a channel back; the ends live as long as this does."""

    def __init__(self) -> None:
        self.channels = (memfast.Channel.create(capacity=RING), memfast.Channel.create())

    def side(self, which: int) -> Side:
        """Claim the ends of the parent (0) or of the child (1)."""
        self.sender = self.channels[which].sender()
        self.receiver = self.channels[1 - which].receiver()
        return Side(self.sender.send, self.receiver.recv, self.receiver.recv_into)


class Theirs:
    """A pipe of the standard library."""

    def __init__(self) -> None:
        self.ends = multiprocessing.Pipe()

    def side(self, which: int) -> Side:
        """Return the end of the parent (0) or of the child (1)."""
        end = self.ends[which]
        return Side(end.send_bytes, end.recv_bytes, end.recv_bytes_into)


LANES = (Ours, Theirs)


@contextmanager
def apart() -> Iterator[None]:
    """Keep parent and forks on cores of their own, where there are two to be had."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def forked(body: Callable[[], None]) -> int:
    """Run *body* in a fork that ends there, on another core than ours if we have one."""
    if sys.stdout is not None:
        sys.stdout.flush()
    cores = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if cores:
                with suppress(OSError):  # not ours to use: stay where we are
                    os.sched_setaffinity(0, cores)
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def reap(pid: int) -> None:
    """Wait for a fork; one that failed or does not end fails the demonstration."""
    deadline = time.monotonic() + WAIT
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Failed(f"process {pid} did not end")
        time.sleep(0.001)
    if found[1]:
        raise Failed(f"process {pid} ended with {os.waitstatus_to_exitcode(found[1])}")


def blocks(data: bytes) -> Iterator[memoryview]:
    """Cut the file into messages."""
    whole = memoryview(data)
    return (whole[at : at + BLOCK] for at in range(0, len(data), BLOCK))


def transfer(lane: Ours | Theirs, data: bytes, digest: str) -> float:
    """Send the file several times and return the best GB/s; the last copy is hashed there."""

    def receive() -> None:
        side = lane.side(1)
        copy = bytearray(len(data))
        for _ in range(ROUNDS):
            whole = memoryview(copy)
            while whole:
                whole = whole[side.into(whole) :]
            side.send(b"got it")
        side.send(hashlib.sha256(copy).digest())
        side.recv()

    pid = forked(receive)
    side = lane.side(0)
    best = 0.0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for block in blocks(data):
            side.send(block)
        side.recv()
        best = max(best, len(data) / (time.perf_counter() - begin) / 1e9)
    answer = side.recv()
    side.send(b"thanks")
    reap(pid)
    if answer.hex() != digest:
        raise Failed("SHA-256 differs at the other end")
    return best


def rate(lane: Ours | Theirs) -> float:
    """Send small messages one way, in M/s; each is checked."""
    messages = [number.to_bytes(SMALL, "little") for number in range(BATCH)]

    def receive() -> None:
        side = lane.side(1)
        recv = side.recv
        right = all(recv() == one for _ in range(BATCHES) for one in messages)
        side.send(b"right" if right else b"wrong")
        side.recv()

    pid = forked(receive)
    side = lane.side(0)
    send = side.send
    begin = time.perf_counter()
    for _ in range(BATCHES):
        for one in messages:
            send(one)
    answer = side.recv()
    elapsed = time.perf_counter() - begin
    send(b"thanks")
    reap(pid)
    if answer != b"right":
        raise Failed("a small message arrived changed")
    return BATCH * BATCHES / elapsed / 1e6


def round_trips(lane: Ours | Theirs) -> tuple[float, float]:
    """Time there and back, in microseconds: the median, and what 99 of 100 do not exceed."""

    def answer() -> None:
        side = lane.side(1)
        send, recv = side.send, side.recv
        for _ in range(TRIPS):
            send(recv())
        recv()

    pid = forked(answer)
    side = lane.side(0)
    send, recv = side.send, side.recv
    message, samples, clock = bytes(SMALL), [], time.perf_counter_ns
    for _ in range(TRIPS):
        begin = clock()
        send(message)
        recv()
        samples.append(clock() - begin)
    send(b"thanks")
    reap(pid)
    samples.sort()
    return samples[TRIPS // 2] / 1e3, samples[TRIPS * 99 // 100] / 1e3
