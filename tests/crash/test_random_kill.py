"""SIGKILL at random moments: what the step-killer's states did not think of."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

import memfast


def numbered(number: int) -> bytes:
    """A message whose length and content depend on its number: none can pass for another."""
    return number.to_bytes(4, "little") * (1 + number * 7 % 60)


def send_until_killed(channel: memfast.Channel, how: int) -> None:
    with channel.sender() as sender:
        number = channel.stats().messages_sent
        while True:
            if how == 0:
                sender.send(numbered(number))
                number += 1
            elif how == 1:
                sender.send_many([numbered(number + ahead) for ahead in range(20)])
                number += 20
            else:
                message = numbered(number)
                with sender.loan(len(message)) as out:
                    out[:] = message
                number += 1


def receive_until_killed(channel: memfast.Channel, how: int) -> None:
    buffer = bytearray(1000)
    with channel.receiver() as receiver:
        while True:
            if how == 0:
                receiver.recv()
            elif how == 1:
                receiver.recv_many(20)
            elif how == 2:
                receiver.recv_into(buffer)
            else:
                with receiver.borrow() as view:
                    bytes(view)


def start(function, *arguments) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments)
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def kill_senders(rng: random.Random, trials: int) -> None:
    """One receiver outlives many senders, and gets an unbroken sequence."""
    expected = 0
    channel = memfast.Channel.create(capacity=1 << rng.randrange(12, 15))
    with channel, channel.receiver() as receiver:
        for _ in range(trials):
            pid = start(send_until_killed, channel, rng.randrange(3))
            deadline = time.monotonic() + rng.expovariate(1000)
            while time.monotonic() < deadline:
                message = receiver.try_recv()
                if message is not None:
                    assert message == numbered(expected)
                    expected += 1
            kill(pid)
            while (message := receiver.try_recv()) is not None:
                assert message == numbered(expected)
                expected += 1
            assert channel.stats().messages_sent == expected
        with pytest.raises(memfast.PeerDiedError):
            receiver.recv(timeout=20)


def kill_receivers(rng: random.Random, trials: int) -> None:
    """One sender outlives many receivers; the last one finds exactly what is not counted."""
    sent = 0
    channel = memfast.Channel.create(capacity=1 << rng.randrange(12, 15))
    with channel, channel.sender() as sender:
        for _ in range(trials):
            pid = start(receive_until_killed, channel, rng.randrange(4))
            deadline = time.monotonic() + rng.expovariate(1000)
            while time.monotonic() < deadline:
                if sender.try_send(numbered(sent)):
                    sent += 1
            kill(pid)
        counted = channel.stats().messages_received
        with channel.receiver() as receiver:
            while (message := receiver.try_recv()) is not None:
                assert message == numbered(counted)
                counted += 1
        assert counted == sent


def campaign(rng: random.Random, trials: int) -> None:
    round_trials = 50
    for _ in range(trials // (2 * round_trials)):
        kill_senders(rng, round_trials)
        kill_receivers(rng, round_trials)


@pytest.mark.timeout(120)
def test_500_random_kills_tear_and_lose_nothing(rng):
    """Unbroken sequences over deaths of senders and receivers, all ways to send and receive."""
    campaign(rng, 500)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_10000_random_kills_tear_and_lose_nothing(rng):
    """The same, twenty times as long."""
    campaign(rng, 10_000)
