"""
A process killed before any one instruction of the ring: exhaustive, not random.

Each case kills a fresh child at instruction 0, 1, 2, ... of one C function of
the installed ``_fast`` module until the function returns unharmed, and after
each death looks at the world as a survivor does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from stepping import boundaries

import memfast
from memfast import _fast

CAPACITY = 4096  # 32 slots, 4,096 bytes of arena


def numbered(number: int, size: int) -> bytes:
    """A message that no other, and no part of another, can pass for."""
    return bytes((number * 31 + 7 + at * 5) & 0xFF for at in range(size))


def drain(receiver: memfast.Receiver) -> list[bytes]:
    """Take what is there, whether the sender is alive, dead or closed."""
    got = []
    try:
        while (message := receiver.try_recv()) is not None:
            got.append(message)
    except memfast.ClosedError:
        pass
    return got


def survivor_goes_on(channel: memfast.Channel, receiver: memfast.Receiver) -> None:
    """The role of the dead is free at once, and the channel works as if nothing had been."""
    with channel.sender() as sender:
        for size in (0, 1, 120, 121, CAPACITY):
            sender.send(numbered(99, size), timeout=5)
            assert receiver.recv(timeout=5) == numbered(99, size)


# name: sizes sent and received before, sizes sent and left, size of the message in flight
SEND_STATES = {
    "empty": ((), (), 64),
    "empty, no bytes": ((), (), 0),
    "empty, in the arena": ((), (), 200),
    "half full": ((), (64,) * 16, 100),
    "last slot": ((), (8,) * 31, 8),
    "full": ((), (8,) * 32, 8),
    "arena wraps": ((3000,), (500,), 900),
    "arena exactly full": ((), (1024, 2048), 1024),
    "arena full": ((), (1024, 2048, 512), 1024),
    "whole capacity behind a message": ((130,), (), CAPACITY),
    "slots wrap": ((8,) * 40, (8,) * 5, 121),
}


@pytest.mark.parametrize("state", SEND_STATES)
def test_a_sender_killed_anywhere_in_send_leaves_whole_messages(state: str) -> None:
    """All that was sent arrives, whole and in order; the message in flight arrives whole or not."""
    before, left, size = SEND_STATES[state]

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        receiver = channel.receiver()

        def fill() -> None:
            with channel.sender() as sender:
                for number, one in enumerate(before):
                    sender.send(numbered(number, one), timeout=5)
                    assert receiver.recv(timeout=5) == numbered(number, one)
                for number, one in enumerate(left):
                    sender.send(numbered(100 + number, one), timeout=5)

        fill()

        def send() -> None:
            channel.sender().try_send(numbered(200, size))

        def check(boundary: int, pid: int) -> None:
            expected = [numbered(100 + number, one) for number, one in enumerate(left)]
            got = drain(receiver)
            assert got in (expected, [*expected, numbered(200, size)])
            if boundary % 40 == 0:
                with pytest.raises(memfast.PeerDiedError) as caught:
                    receiver.recv(timeout=5)
                assert caught.value.pid == pid
            stats = channel.stats()
            assert stats.messages_sent == stats.messages_received == len(before) + len(got)
            assert stats.bytes_sent == sum(before) + sum(map(len, got))
            assert stats.used == 0
            survivor_goes_on(channel, receiver)

        return send, check

    # A copy of over 2 KiB is REP MOVSB, which single-steps byte by byte: there it counts as one.
    assert boundaries(_fast, "mf_sender_send", prepare, whole=size < 2000) > 20


# name: sizes waiting, how many are taken before the one in flight
TAKE_STATES = {
    "one": ((64,), 0),
    "one without bytes": ((0,), 0),
    "two lines": ((120, 8), 0),
    "in the arena": ((300, 8), 0),
    "full": ((8,) * 32, 5),
    "arena full": ((2048, 2048), 0),
    "arena wraps": ((2500, 700, 800), 1),
}


@pytest.mark.parametrize("state", TAKE_STATES)
@pytest.mark.parametrize("function", ["mf_receiver_peek", "mf_receiver_take"])
def test_a_receiver_killed_anywhere_in_recv_loses_nothing_it_did_not_take(
    state: str, function: str
) -> None:
    """The next receiver gets every message not taken, whole and in order; the counts agree."""
    sizes, taken = TAKE_STATES[state]

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        sender = channel.sender()
        for number, size in enumerate(sizes):
            sender.send(numbered(number, size), timeout=5)
        with channel.receiver() as first:
            for _ in range(taken):
                first.recv(timeout=5)

        def receive() -> None:
            channel.receiver().try_recv()

        def check(boundary: int, pid: int) -> None:
            with channel.receiver() as receiver:
                counted = channel.stats().messages_received
                assert counted in (taken, taken + 1)
                assert drain(receiver) == [
                    numbered(number, size) for number, size in enumerate(sizes) if number >= counted
                ]
                assert channel.stats().messages_received == len(sizes)
                sender.send(numbered(7, CAPACITY), timeout=5)
                assert receiver.recv(timeout=5) == numbered(7, CAPACITY)

        return receive, check

    assert boundaries(_fast, function, prepare, whole=max(sizes) < 2000) > 10


@pytest.mark.parametrize("lent", [1, 2, 3, 4])
def test_a_receiver_killed_while_it_frees_borrowed_messages_tears_none(lent: int) -> None:
    """Freed out of order and killed at any instruction: the next receiver reads whole messages."""
    sizes = (900, 100, 900, 900)

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        sender = channel.sender()
        for number, size in enumerate(sizes):
            sender.send(numbered(number, size), timeout=5)

        def receive() -> None:
            receiver = channel.receiver()
            borrows = [receiver.borrow(timeout=5) for _ in range(lent)]
            for borrow in borrows:
                borrow.__enter__()
            for borrow in reversed(borrows):  # all are freed at once, with the oldest
                borrow.__exit__(None, None, None)

        def check(boundary: int, pid: int) -> None:
            counted = channel.stats().messages_received
            assert counted in (0, lent)
            while sender.try_send(numbered(50, 700)):  # overwrite whatever was given back
                pass
            with channel.receiver() as receiver:
                kept = [numbered(number, size) for number, size in enumerate(sizes)][counted:]
                assert drain(receiver)[: len(kept)] == kept

        return receive, check

    assert boundaries(_fast, "mf_receiver_free", prepare) > 10


def test_a_sender_killed_anywhere_in_the_commit_of_a_loan_sends_it_whole_or_not() -> None:
    """A message written in place exists from its commit on, not before."""

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        receiver = channel.receiver()

        def lend() -> None:
            with channel.sender().loan(1000) as out:
                out[:] = numbered(1, 1000)

        def check(boundary: int, pid: int) -> None:
            assert drain(receiver) in ([], [numbered(1, 1000)])
            survivor_goes_on(channel, receiver)

        return lend, check

    assert boundaries(_fast, "mf_sender_commit", prepare) > 10


CLAIMS: Sequence[tuple[str, str]] = (
    ("mf_role_claim_sender", "sender"),
    ("mf_role_claim_receiver", "receiver"),
)


@pytest.mark.parametrize(("function", "role"), CLAIMS)
def test_a_process_killed_anywhere_in_a_claim_leaves_the_role_to_others(
    function: str, role: str
) -> None:
    """The role is free, or held by the provably dead: the next claim gets it, with all messages."""

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        with channel.sender() as sender:
            sender.send(b"one", timeout=5)
            sender.send(numbered(2, 500), timeout=5)

        def claim() -> None:
            getattr(channel, role)()

        def check(boundary: int, pid: int) -> None:
            with channel.receiver() as receiver:
                assert drain(receiver) == [b"one", numbered(2, 500)]
                survivor_goes_on(channel, receiver)

        return claim, check

    assert boundaries(_fast, function, prepare, whole=False) > 50


@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_a_process_killed_anywhere_in_close_has_died_or_closed(role: str) -> None:
    """The survivor is told one or the other, and the role can be claimed anew."""

    def prepare() -> tuple[Callable[[], object], Callable[[int, int], None]]:
        channel = memfast.Channel.create(capacity=CAPACITY)
        with channel.sender() as sender:
            sender.send(b"one", timeout=5)

        def close() -> None:
            getattr(channel, role)().close()

        def check(boundary: int, pid: int) -> None:
            with channel.receiver() as receiver:
                assert receiver.recv(timeout=5) == b"one"
                if role == "sender" and boundary % 10 == 0:
                    with pytest.raises((memfast.PeerDiedError, memfast.ClosedError)):
                        receiver.recv(timeout=5)
                survivor_goes_on(channel, receiver)

        return close, check

    assert boundaries(_fast, f"mf_role_close_{role}", prepare) > 10
