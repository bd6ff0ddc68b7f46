"""
memfast and its peers behind one face: a pair of one-way pipes between a parent and its fork.

Each adapter uses its library as that library's documentation advises. A
``Lane`` goes one way; it is made before the fork and opened on each side after.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import memfast

Send = Callable[[Any], Any]
Receive = Callable[[], Any]
SendMany = Callable[[Sequence[bytes]], Any]
ReceiveMany = Callable[[int], Sequence[bytes]]


def peer(name: str) -> Any:
    """Import a peer; untyped, since it may not be installed."""
    return importlib.import_module(name)


class Lane:
    """One direction; subclasses say how. Batches fall back to a loop where a peer has none."""

    name = ""
    needs = ""  # the import that must be there
    sizes = range(1 << 32)  # payload sizes that it takes
    batches = False
    lossy = False  # it may drop messages: only what arrives counts

    def __init__(self, size: int, capacity: int) -> None:
        self.size = size
        self.capacity = capacity

    def open_sender(self) -> Send:
        raise NotImplementedError

    def open_receiver(self) -> Receive:
        raise NotImplementedError

    def open_batch_sender(self) -> SendMany:
        raise NotImplementedError

    def open_batch_receiver(self) -> ReceiveMany:
        raise NotImplementedError

    def flush(self) -> None:
        """Have everything sent before this process ends."""

    def remove(self) -> None:
        """Take away whatever the peer left behind."""


class Memfast(Lane):
    name = "memfast"
    batches = True

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.channel = memfast.Channel.create(capacity=capacity)

    def open_sender(self) -> Send:
        sender = self.channel.sender()
        self.end: Any = sender
        return sender.send

    def open_receiver(self) -> Receive:
        self.end = self.channel.receiver()
        return self.end.recv

    def open_batch_sender(self) -> SendMany:
        self.end = self.channel.sender()
        return self.end.send_many

    def open_batch_receiver(self) -> ReceiveMany:
        self.end = self.channel.receiver()
        return self.end.recv_many

    def remove(self) -> None:
        self.channel.close()


class MemfastInto(Memfast):
    """Received into one buffer again and again, as recv_bytes_into users do."""

    name = "memfast recv_into"
    batches = False

    def open_receiver(self) -> Receive:
        self.end = self.channel.receiver()
        buffer = bytearray(self.size)
        into = self.end.recv_into

        def receive() -> bytearray:
            into(buffer)
            return buffer

        return receive


class Pipe(Lane):
    name = "multiprocessing.Pipe"

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.reader, self.writer = multiprocessing.Pipe(duplex=False)

    def open_sender(self) -> Send:
        return self.writer.send_bytes

    def open_receiver(self) -> Receive:
        return self.reader.recv_bytes

    def remove(self) -> None:
        self.reader.close()
        self.writer.close()


class SimpleQueue(Lane):
    name = "multiprocessing.SimpleQueue"
    sizes = range(100_000)

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.queue = multiprocessing.get_context("fork").SimpleQueue()

    def open_sender(self) -> Send:
        return self.queue.put

    def open_receiver(self) -> Receive:
        return self.queue.get

    def remove(self) -> None:
        self.queue.close()


class Queue(SimpleQueue):
    name = "multiprocessing.Queue"

    def __init__(self, size: int, capacity: int) -> None:
        Lane.__init__(self, size, capacity)
        self.queue: Any = multiprocessing.get_context("fork").Queue(max(16, capacity // size))

    def flush(self) -> None:
        self.queue.close()
        self.queue.join_thread()


class SeqPacket(Lane):
    name = "socketpair SEQPACKET"
    sizes = range(100_000)

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.reader, self.writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def open_sender(self) -> Send:
        return self.writer.send

    def open_receiver(self) -> Receive:
        receive, size = self.reader.recv, self.size
        return lambda: receive(size)

    def remove(self) -> None:
        self.reader.close()
        self.writer.close()


class Stream(Lane):
    """A byte stream read into one buffer: what a socket does best with large blocks."""

    name = "socketpair STREAM"
    sizes = range(100_000, 1 << 32)

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.reader, self.writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self.reader, self.writer):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)

    def open_sender(self) -> Send:
        return self.writer.sendall

    def open_receiver(self) -> Receive:
        buffer = bytearray(self.size)
        whole, size, into = memoryview(buffer), self.size, self.reader.recv_into

        def receive() -> bytearray:
            got = 0
            while got < size:
                got += into(whole[got:])
            return buffer

        return receive

    def remove(self) -> None:
        self.reader.close()
        self.writer.close()


class Filed(Lane):
    """A peer that meets at a path of its own."""

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        self.folder = tempfile.mkdtemp(prefix="memfast-bench-", dir="/dev/shm")
        self.path = os.path.join(self.folder, "peer")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Zmq(Filed):
    name = "pyzmq ipc"
    needs = "zmq"

    def open_sender(self) -> Send:
        zmq = peer("zmq")

        self.context = zmq.Context()
        self.socket: Any = self.context.socket(zmq.PAIR)
        self.socket.bind(f"ipc://{self.path}")
        return self.socket.send

    def open_receiver(self) -> Receive:
        zmq = peer("zmq")

        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.connect(f"ipc://{self.path}")
        return self.socket.recv

    def flush(self) -> None:
        self.socket.close()
        self.context.term()


class FasterFifo(Lane):
    name = "faster-fifo"
    needs = "faster_fifo"
    batches = True

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        faster_fifo = peer("faster_fifo")

        self.queue = faster_fifo.Queue(
            max_size_bytes=max(capacity, 2 * size), loads=bytes, dumps=bytes
        )

    def open_sender(self) -> Send:
        put = self.queue.put
        return lambda message: put(message, timeout=60)

    def open_receiver(self) -> Receive:
        get = self.queue.get
        return lambda: get(timeout=60)

    def open_batch_sender(self) -> SendMany:
        put = self.queue.put_many
        return lambda messages: put(messages, timeout=60)

    def open_batch_receiver(self) -> ReceiveMany:
        get = self.queue.get_many
        return lambda most: get(max_messages_to_get=most, timeout=60)


class Subetha(Filed):
    """SpscRing: fixed slots; it has no blocking call, so both sides spin on its try calls."""

    name = "subetha-ipc SpscRing"
    needs = "subetha"
    sizes = range(65)  # what its slots hold
    batches = True

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        subetha = peer("subetha")

        self.slots = 1024
        self.ring = subetha.SpscRing(self.path, self.slots)

    def _open(self) -> Any:
        subetha = peer("subetha")

        return subetha.SpscRing.open(self.path, self.slots)

    def open_sender(self) -> Send:
        push = self._open().push

        def send(message: bytes) -> None:
            while not push(message):
                pass

        return send

    def open_receiver(self) -> Receive:
        pop = self._open().pop

        def receive() -> bytes:
            while (message := pop()) is None:
                pass
            return message

        return receive

    def open_batch_sender(self) -> SendMany:
        push = self._open().push_many

        def send(messages: Sequence[bytes]) -> None:
            while messages:
                messages = messages[push(messages) :]

        return send

    def open_batch_receiver(self) -> ReceiveMany:
        pop = self._open().pop_many

        def receive(most: int) -> Sequence[bytes]:
            while not (messages := pop(most)):
                pass
            return messages

        return receive


class Kickmsg(Lane):
    """Publish and subscribe; a ring that overflows drops its oldest messages."""

    name = "kickmsg"
    lossy = True
    needs = "kickmsg"
    sizes = range(100_000)

    def __init__(self, size: int, capacity: int) -> None:
        super().__init__(size, capacity)
        kickmsg = peer("kickmsg")

        self.namespace = f"bench{secrets.token_hex(4)}"
        self.config = kickmsg.Config()
        self.config.max_subscribers = 1
        self.config.pool_size = 256
        self.config.max_payload_size = size
        self.node = kickmsg.Node("maker", self.namespace)
        self.publisher = self.node.advertise("lane", self.config)

    def open_sender(self) -> Send:
        kickmsg = peer("kickmsg")

        self.opened = kickmsg.Node("sender", self.namespace)
        self.publisher = self.opened.advertise_or_join("lane", self.config)
        return self.publisher.send

    def open_receiver(self) -> Receive:
        kickmsg = peer("kickmsg")

        self.opened = kickmsg.Node("receiver", self.namespace)
        subscriber = self.opened.subscribe_or_create("lane", self.config)
        take, patience = subscriber.try_receive, timedelta(seconds=10)

        def receive() -> bytes:
            for _ in range(1000):
                if (message := take()) is not None:
                    return message
            return subscriber.receive(patience)

        return receive

    def remove(self) -> None:
        self.node.unlink_topic("lane")


LANES: list[type[Lane]] = [
    Memfast,
    MemfastInto,
    Subetha,
    Kickmsg,
    Zmq,
    FasterFifo,
    SeqPacket,
    Stream,
    Pipe,
    SimpleQueue,
    Queue,
]


def installed(lane: type[Lane]) -> bool:
    """Whether the peer can be imported here."""
    return not lane.needs or importlib.util.find_spec(lane.needs) is not None
