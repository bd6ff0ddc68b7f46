"""Channels between processes: every way to get there, and every orderly way to end."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import random
import stat
import time

import pytest
import support

import memfast

METHODS = ["fork", "spawn", "forkserver"]


def numbered(number: int) -> bytes:
    """A message whose length and content depend on its number."""
    return number.to_bytes(8, "little") * (1 + number * 7 % 50)


# ---- children; at module level, so that spawn finds them ----


def echo(there: memfast.Channel, back: memfast.Channel) -> None:
    with there.receiver() as receiver, back.sender() as sender:
        for message in receiver:
            sender.send(message, timeout=20)


def send_from_end(sender: memfast.Sender, count: int) -> None:
    for number in range(count):
        sender.send(numbered(number), timeout=20)


def receive_into(receiver: memfast.Receiver, back: memfast.Channel) -> None:
    with back.sender() as sender:
        digest = hashlib.sha256()
        for message in receiver:
            digest.update(message)
        sender.send(digest.digest(), timeout=20)


def leave_without_closing(channel: memfast.Channel) -> None:
    channel.sender().send(b"the last", timeout=20)


def slow_child(channel: memfast.Channel) -> None:
    time.sleep(0.3)
    channel.sender().send(b"late but here", timeout=20)


# ---- start methods ----


@pytest.mark.parametrize("method", METHODS)
def test_a_channel_reaches_a_child_by_every_start_method(method):
    """Passed as an argument; the child claims the other ends, and a closed sender ends it."""
    context = multiprocessing.get_context(method)
    with memfast.Channel.create() as there, memfast.Channel.create(capacity=4096) as back:
        child = context.Process(target=echo, args=(there, back))
        child.start()
        with there.sender() as sender, back.receiver() as receiver:
            for number in range(500):
                sender.send(numbered(number), timeout=20)
                assert receiver.recv(timeout=20) == numbered(number)
            sender.close()
            with pytest.raises(memfast.ClosedError):
                receiver.recv(timeout=20)
        child.join(20)
        assert child.exitcode == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_clean_exit_of_a_child_closes_its_ends(method):
    """Never PeerDiedError for a child that simply came to its end."""
    context = multiprocessing.get_context(method)
    with memfast.Channel.create() as channel, channel.receiver() as receiver:
        child = context.Process(target=leave_without_closing, args=(channel,))
        child.start()
        assert receiver.recv(timeout=20) == b"the last"
        with pytest.raises(memfast.ClosedError):
            receiver.recv(timeout=20)
        child.join(20)


def test_a_clean_exit_of_a_program_closes_its_ends(name):
    """sys.exit, an exception and the end of the script alike."""
    for ending in ("pass", "raise SystemExit(3)", "1/0"):
        with memfast.Channel.create(name) as channel, channel.receiver() as receiver:
            code = (
                "import sys, memfast\n"
                "tx = memfast.Channel.open(sys.argv[1]).sender()\n"
                "tx.send(b'one')\n" + ending
            )
            with support.python_child(code, name) as child:
                assert receiver.recv(timeout=20) == b"one"
                with pytest.raises(memfast.ClosedError):
                    receiver.recv(timeout=20)
                child.wait(20)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_parent_may_drop_the_channel_before_the_child_has_started(method):
    """While a process is being spawned its pickled arguments keep the channel alive."""
    context = multiprocessing.get_context(method)
    channel = memfast.Channel.create()
    receiver = channel.receiver()
    child = context.Process(target=slow_child, args=(channel,))
    child.start()
    channel.close()
    del channel
    assert receiver.recv(timeout=20) == b"late but here"
    child.join(20)
    receiver.close()

    channel = memfast.Channel.create()
    segment_id = channel.id
    child = context.Process(target=slow_child, args=(channel,))
    child.start()
    channel.close()
    del channel
    child.join(20)
    assert child.exitcode == 0
    child.close()
    support.until(lambda: not exists(segment_id))


def exists(segment_id: int) -> bool:
    try:
        memfast.Segment.open(id=segment_id).close()
    except memfast.NotFoundError:
        return False
    return True


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_end_moves_to_a_child_by_pickle(method):
    """Sender and receiver alike; the parent's own is of no more use, and nothing is lost."""
    context = multiprocessing.get_context(method)
    with memfast.Channel.create() as there, memfast.Channel.create() as back:
        sender, receiver = there.sender(), there.receiver()
        answers = back.receiver()
        producer = context.Process(target=send_from_end, args=(sender, 200))
        consumer = context.Process(target=receive_into, args=(receiver, back))
        producer.start()
        consumer.start()
        with pytest.raises(memfast.ClosedError):
            sender.send(b"x")
        expected = hashlib.sha256(b"".join(map(numbered, range(200)))).digest()
        assert answers.recv(timeout=30) == expected
        for child in (producer, consumer):
            child.join(20)
            assert child.exitcode == 0
            child.close()
        answers.close()


def test_an_end_claimed_before_a_fork_belongs_to_the_parent():
    """The child's use of it raises and changes nothing; the child may claim what is free."""
    with memfast.Channel.create() as channel:
        sender = channel.sender()

        def child() -> None:
            for call, argument in ((sender.send, b"x"), (sender.loan, 3), (sender.try_send, b"")):
                with pytest.raises(memfast.RoleTakenError) as caught:
                    call(argument)
                assert caught.value.pid == os.getppid()
            sender.close()
            with channel.receiver() as receiver:
                assert receiver.recv(timeout=20) == b"before"

        sender.send(b"before")
        with support.forked(child) as pid:
            assert support.exit_status(pid) == 0
        with channel.receiver() as receiver:
            sender.send(b"still mine")
            assert receiver.recv() == b"still mine"
        sender.close()


def test_ends_work_from_both_sides_of_a_raw_fork():
    """A child of a fork that ran no Python hook is told from its parent by the guard page."""
    code = (
        "import ctypes, os, sys, memfast\n"
        "ch = memfast.Channel.create()\n"
        "tx = ch.sender()\n"
        "pid = ctypes.PyDLL(None).fork()\n"
        "if pid == 0:\n"
        "    try: tx.send(b'x')\n"
        "    except memfast.RoleTakenError: os._exit(7)\n"
        "    os._exit(1)\n"
        "tx.send(b'y')\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ch.stats().messages_sent)\n"
    )
    assert support.run_python(code).split() == ["7", "1"]


# ---- names ----


def test_a_named_channel_is_opened_by_another_program(name):
    """By name alone, also before it exists if it may wait; the name goes with its last user."""
    code = (
        "import sys, memfast\n"
        "with memfast.Channel.open(sys.argv[1], timeout=20) as ch, ch.sender() as tx:\n"
        "    tx.send_many([b'hello', b'world'])\n"
    )
    with support.python_child(code, name) as child:
        time.sleep(0.2)
        with memfast.Channel.create(name) as channel, channel.receiver() as receiver:
            assert list(receiver) == [b"hello", b"world"]
            child.wait(20)
    with pytest.raises(memfast.NotFoundError):
        memfast.Channel.open(name)
    assert not (support.NAMES / f"{name}.channel").exists()


def test_a_name_is_taken_while_anybody_uses_it(name):
    """create refuses it, whoever the user is; afterwards it is free."""
    first = memfast.Channel.create(name)
    second = memfast.Channel.open(name)
    with pytest.raises(memfast.ExistsError):
        memfast.Channel.create(name)
    first.close()
    with pytest.raises(FileExistsError):
        memfast.Channel.create(name)
    second.close()
    memfast.Channel.create(name).close()


def test_a_name_left_by_the_dead_is_stale(name):
    """open says so and removes it; create replaces it; nothing is left in the kernel."""
    code = (
        "import os, sys, memfast\n"
        "ch = memfast.Channel.create(sys.argv[1])\n"
        "tx = ch.sender(); tx.send(b'x')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = support.NAMES / f"{name}.channel"
    for _ in range(2):
        with support.python_child(code, name) as child:
            child.wait(20)
        assert path.exists()
        with pytest.raises(memfast.StaleHandleError, match="last user is gone"):
            memfast.Channel.open(name)
        assert not path.exists()
    with support.python_child(code, name) as child:
        child.wait(20)
    with memfast.Channel.create(name) as channel:
        assert channel.stats().messages_sent == 0


def test_open_waits_only_as_long_as_it_may(name):
    """timeout=0 only looks; a timed one waits; both say that there is no such name."""
    for timeout in (0, 0.1):
        begin = time.monotonic()
        with pytest.raises(FileNotFoundError):
            memfast.Channel.open(name, timeout=timeout)
        assert time.monotonic() - begin >= timeout


def test_names_are_private_to_the_user(name):
    """The directory is 0700 and ours; the file is 0600."""
    with memfast.Channel.create(name):
        directory = support.NAMES.stat()
        assert stat.S_IMODE(directory.st_mode) == 0o700
        assert directory.st_uid == os.geteuid()
        assert stat.S_IMODE((support.NAMES / f"{name}.channel").stat().st_mode) & 0o077 == 0


# ---- handles ----


def test_a_pickle_keeps_nothing_alive():
    """Outside of spawning, a pickle of a channel that is gone is a stale handle."""
    channel = memfast.Channel.create()
    handle = pickle.dumps(channel)
    same = pickle.loads(handle)
    assert same.id == channel.id
    same.close()
    channel.close()
    with pytest.raises(memfast.StaleHandleError):
        pickle.loads(handle)


# ---- load ----


def test_random_traffic_between_two_processes_arrives_as_sent(rng):
    """All ways of sending against all ways of receiving, many ring sizes, contents verified."""
    for _ in range(6):
        capacity = 1 << rng.randrange(12, 18)
        run_seed = rng.randrange(1 << 30)
        with memfast.Channel.create(capacity=capacity) as channel:

            def child(channel=channel, run_seed=run_seed, capacity=capacity) -> None:
                with channel.sender() as sender:
                    traffic(random.Random(run_seed), sender, capacity)

            with support.forked(child) as pid, channel.receiver() as receiver:
                own = random.Random(run_seed + 1)
                digest, count = hashlib.sha256(), 0
                for message in take(own, receiver):
                    digest.update(message)
                    count += 1
                assert support.exit_status(pid) == 0
        sent = Recorder()
        traffic(random.Random(run_seed), sent, capacity)
        assert (count, digest.digest()) == (sent.count, sent.digest.digest())


class Recorder:
    """Stands in for a sender to say what a run of traffic sends."""

    def __init__(self) -> None:
        self.count = 0
        self.digest = hashlib.sha256()

    def send(self, message, timeout=None):
        self.count += 1
        self.digest.update(message)

    def send_many(self, messages, timeout=None):
        for message in messages:
            self.send(message)
        return len(messages)


def traffic(own: random.Random, sender, capacity: int) -> None:
    for _ in range(400):
        size = min(capacity, int(own.expovariate(1) ** 3 * 100))
        if own.random() < 0.2:
            messages = [own.randbytes(size % 300) for _ in range(own.randrange(60))]
            assert sender.send_many(messages, timeout=30) == len(messages)
        else:
            sender.send(own.randbytes(size), timeout=30)
        if own.random() < 0.01 and not isinstance(sender, Recorder):
            time.sleep(0.002)


def take(own: random.Random, receiver: memfast.Receiver):
    buffer = bytearray(receiver.max_message)
    while True:
        try:
            kind = own.randrange(5)
            if kind == 0:
                yield receiver.recv(timeout=30)
            elif kind == 1:
                yield from receiver.recv_many(own.randrange(1, 40), timeout=30)
            elif kind == 2:
                yield buffer[: receiver.recv_into(buffer, timeout=30)]
            elif kind == 3:
                with receiver.borrow(timeout=30) as view:
                    message = bytes(view)
                yield message
            elif (message := receiver.try_recv()) is not None:
                yield message
        except memfast.ClosedError:
            return
