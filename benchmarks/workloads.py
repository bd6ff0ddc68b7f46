"""
Two pinned processes and one question each; every message that arrives is checked.

The parent runs on core 0, its fork on core 1. Messages carry their number, so a
lost, repeated or torn one ends the run with an error.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import memfast
from benchmarks.transports import Lane

DISTINCT = 64  # small messages with different contents, sent round and round
ANSWER = b"all of it is here"
WHOLE = 4096  # up to this size every byte is compared, above it a number at both ends


class WrongMessage(Exception):
    """A transport delivered something else than was sent."""


def pin(core: int) -> None:
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def messages(size: int) -> list[bytes]:
    """Different contents for each number; the number stands at both ends."""
    return [
        (number.to_bytes(8, "little") * (size // 8 + 1))[:size] if size else b""
        for number in range(DISTINCT)
    ]


def numbered(size: int, count: int) -> Iterator[bytearray]:
    """One large buffer, filled again and again as a camera does; its number at both ends."""
    buffer = bytearray(b"x" * size)
    for number in range(count):
        buffer[:8] = buffer[-8:] = number.to_bytes(8, "little")
        yield buffer


@contextmanager
def forked(body: Callable[[], None]) -> Iterator[int]:
    """Run *body* in a fork on the other core; its failure is ours."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            pin(1)
            gc.disable()
            body()
            status = 0
        except BaseException as error:
            os.write(2, f"benchmark child: {error!r}\n".encode())
        finally:
            os._exit(status)
    pin(0)
    gc.disable()
    try:
        yield pid
        _, status = os.waitpid(pid, 0)
        if status:
            raise WrongMessage(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    except BaseException:
        with _ignored():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise
    finally:
        gc.enable()


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass


def percentile(samples: list[int], share: float) -> float:
    """Return the value that *share* of the sorted samples do not exceed."""
    return samples[min(len(samples) - 1, int(len(samples) * share))]


def round_trip_ns(lane: type[Lane], size: int, count: int, pause: float = 0) -> dict[str, float]:
    """
    There and back, one message at a time; with a *pause* both sides sleep before each.

    A tenth of the rounds come first, untimed.
    """
    there, back = lane(size, 1 << 16), lane(size, 1 << 16)
    sent = messages(size)
    total = count + count // 10

    def child() -> None:
        receive, send = there.open_receiver(), back.open_sender()
        for _ in range(total):
            send(receive())
        back.flush()

    samples = []
    clock = time.perf_counter_ns
    try:
        with forked(child):
            send, receive = there.open_sender(), back.open_receiver()
            time.sleep(0.2)  # publishers and sockets find one another
            for message in islice(cycle(sent), total):
                if pause:
                    time.sleep(pause)
                begin = clock()
                send(message)
                answer = receive()
                samples.append(clock() - begin)
                if answer != message:
                    raise WrongMessage(lane.name)
    finally:
        there.remove()
        back.remove()
    timed = sorted(samples[count // 10 :])
    return {
        "p50": percentile(timed, 0.5),
        "p99": percentile(timed, 0.99),
        "p99.9": percentile(timed, 0.999),
        "max": timed[-1],
    }


def one_way_per_second(lane: type[Lane], size: int, capacity: int, count: int) -> float:
    """One call a message, from the first send to the last receive; an answer ends the run."""
    if lane.lossy:
        return _one_way_lossy(lane, size, capacity, count)
    there, back = lane(size, capacity), lane(len(ANSWER), 1 << 16)
    sent = messages(size) if size <= WHOLE else []

    def child() -> None:
        receive, send = there.open_receiver(), back.open_sender()
        for expected in islice(cycle(sent), count):
            if receive() != expected:
                raise WrongMessage(lane.name)
        for number in range(0 if sent else count):
            got, mark = receive(), number.to_bytes(8, "little")
            if got[:8] != mark or got[-8:] != mark or len(got) != size:
                raise WrongMessage(lane.name)
        send(ANSWER)
        back.flush()

    try:
        with forked(child):
            send, receive = there.open_sender(), back.open_receiver()
            time.sleep(0.2)
            begin = time.perf_counter()
            for message in islice(cycle(sent), count) if sent else numbered(size, count):
                send(message)
            receive()
            return count / (time.perf_counter() - begin)
    finally:
        there.remove()
        back.remove()


def _one_way_lossy(lane: type[Lane], size: int, capacity: int, count: int) -> float:
    """What arrives in the time that the sender needs for *count* messages."""
    there = lane(size, capacity)
    sent = messages(size)
    known = set(sent)
    reader, writer = os.pipe()

    def child() -> None:
        receive = there.open_receiver()
        os.write(writer, b"r")
        got = 0
        while (message := receive()) is not None and message != b"end":
            if message not in known:
                raise WrongMessage(lane.name)
            got += 1
        os.write(writer, got.to_bytes(8, "little"))

    try:
        with forked(child):
            send = there.open_sender()
            os.read(reader, 1)
            begin = time.perf_counter()
            for message in islice(cycle(sent), count):
                send(message)
            elapsed = time.perf_counter() - begin
            send(b"end")
            return int.from_bytes(os.read(reader, 8), "little") / elapsed
    finally:
        there.remove()
        os.close(reader)
        os.close(writer)


def batches_per_second(lane: type[Lane], size: int, capacity: int, count: int) -> float:
    """As many messages a call as the transport takes, 64 offered at a time."""
    there, back = lane(size, capacity), lane(len(ANSWER), 1 << 16)
    sent = messages(size)

    def child() -> None:
        receive, send = there.open_batch_receiver(), back.open_sender()
        expected = sent * 20
        got = 0
        while got < count:
            batch = receive(1024)
            at = got % DISTINCT
            if batch != expected[at : at + len(batch)]:
                raise WrongMessage(lane.name)
            got += len(batch)
        send(ANSWER)
        back.flush()

    try:
        with forked(child):
            send, receive = there.open_batch_sender(), back.open_receiver()
            time.sleep(0.2)
            begin = time.perf_counter()
            for _ in range(count // DISTINCT):
                send(sent)
            receive()
            return count / (time.perf_counter() - begin)
    finally:
        there.remove()
        back.remove()


def zero_copy_per_second(size: int, count: int) -> float:
    """Loan and borrow of one message after the other; a number in it is written and read."""
    with memfast.Channel.create(capacity=8 * max(size, 1 << 13)) as channel:

        def child() -> None:
            with channel.receiver() as receiver:
                for number in range(count):
                    with receiver.borrow() as view:
                        if view[0] != number & 0xFF:
                            raise WrongMessage("memfast borrow")

        with forked(child), channel.sender() as sender:
            begin = time.perf_counter()
            for number in range(count):
                with sender.loan(size) as out:
                    out[0] = number & 0xFF
            elapsed = time.perf_counter() - begin
        return count / elapsed


def idle_cpu_ms(seconds: float) -> float:
    """CPU that a receiver burns while it waits for a live, silent sender."""
    with memfast.Channel.create() as channel:
        reader, writer = os.pipe()

        def child() -> None:
            sender = channel.sender()
            os.write(writer, b"r")
            time.sleep(seconds + 1)
            sender.close()

        try:
            with forked(child), channel.receiver() as receiver:
                os.read(reader, 1)
                before = resource.getrusage(resource.RUSAGE_SELF)
                with _timing_out():
                    receiver.recv(timeout=seconds)
                after = resource.getrusage(resource.RUSAGE_SELF)
        finally:
            os.close(reader)
            os.close(writer)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


@contextmanager
def _timing_out() -> Iterator[None]:
    try:
        yield
    except memfast.WaitTimeout:
        pass


def sends_and_receives(seconds: float) -> float:
    """Send and receive within one process: pairs a second."""
    with memfast.Channel.create() as channel:
        send, receive = channel.sender().send, channel.receiver().recv
        message = b"x" * 64

        def both() -> None:
            send(message)
            receive()

        return calls_per_second(both, seconds)


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Call again and again for a while."""
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(100):
            call()
        count += 100
    return count / seconds


def beside_a_busy_thread(rate: Callable[[], float]) -> tuple[float, float]:
    """Ask for a rate alone, and beside a thread that computes."""
    stop = threading.Event()

    def compute() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number = (number * 3 + 1) & 0xFFFF

    pin(0)
    alone = rate()
    thread = threading.Thread(target=compute)
    thread.start()
    try:
        beside = rate()
    finally:
        stop.set()
        thread.join()
    return alone, beside
