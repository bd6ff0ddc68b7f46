"""Segment.open_or_create: one creation, one init, whoever dies meanwhile."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import secrets
import signal
import threading
import time

import pytest
import support

import memfast
from memfast import Segment, shm

PAGE, TAIL = 4096, 3968  # csrc/layout.h: struct mf_segment_tail
IPC_CREAT, IPC_RMID = 0o1000, 0

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def key():
    number = secrets.randbelow(0xFFFFFFFF) + 1
    yield number
    try:
        with Segment.open(key=number, readonly=True) as left:
            left.remove()
    except memfast.NotFoundError:
        pass


def count_up(segment):
    value = segment.ndarray((1,), "i8")
    before = int(value[0])
    time.sleep(0.02)  # two at a time would both read the same
    value[0] = before + 1


def open_and_report(key, gate, results):
    gate.wait()
    with Segment.open_or_create(key, 64, init=count_up) as segment:
        results.put(int(segment.ndarray((1,), "i8")[0]))


def test_init_runs_once_for_many_openers(key):
    """Eight processes open at the same time: one runs init, and each sees that it is done."""
    context = multiprocessing.get_context("fork")
    gate, results = context.Event(), context.SimpleQueue()
    children = [
        context.Process(target=open_and_report, args=(key, gate, results)) for _ in range(8)
    ]
    for child in children:
        child.start()
    gate.set()
    assert [results.get() for _ in children] == [1] * 8
    for child in children:
        child.join()
    results.close()


def test_init_runs_once_for_many_threads(key):
    """Threads of one process wait for one another as processes do."""
    seen = []

    def work():
        with Segment.open_or_create(key, 64, init=count_up) as segment:
            seen.append(segment.read(8))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(1).to_bytes(8, "little")] * 4


def test_the_size_is_the_user_s_and_must_suffice(key):
    """Openers get the creator's size; who asks for more than that is told what is there."""
    with Segment.open_or_create(key, 5000) as first:
        assert (first.size, first.key, first.stat().key) == (5000, key, key)
        assert not first.stat().dest
        with Segment.open_or_create(key, 10) as second:
            assert (second.id, second.size, second.nonce) == (first.id, 5000, first.nonce)
        with Segment.open(key=key) as third:
            assert (third.size, third.nonce) == (5000, first.nonce)
        with pytest.raises(ValueError, match="5000 bytes, not 5001"):
            Segment.open_or_create(key, 5001)
        assert first.stat().nattch == 1


def test_an_init_that_raises_is_run_again_by_the_next(key):
    """The exception comes through, nothing stays attached, and the turn is given back."""

    def fail(segment):
        segment.write(b"half")
        raise RuntimeError("no luck")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no luck"):
            Segment.open_or_create(key, 64, init=fail)
    with Segment.open_or_create(key, 64, init=lambda s: s.write(b"full")) as segment:
        assert segment.read(4) == b"full"
        assert segment.stat().nattch == 1
    with Segment.open_or_create(key, 64, init=fail) as segment:
        assert segment.read(4) == b"full"


def test_an_init_may_close_its_segment(key):
    """A closed handle comes back closed; init counts as done, and the process lives on."""
    assert Segment.open_or_create(key, 64, init=lambda s: s.close()).closed
    with Segment.open_or_create(key, 64, init=lambda _: pytest.fail("ran twice")) as segment:
        assert not segment.closed


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_a_killed_init_is_taken_over_by_who_waits(key, reaped):
    """SIGKILL in the midst of init: a process that was waiting runs it, a zombie counts as dead."""
    receiving, sending = os.pipe()

    def run():
        def init(segment):
            segment.write(b"half")
            os.write(sending, b"!")
            time.sleep(60)

        Segment.open_or_create(key, 64, init=init)

    def wait():
        with Segment.open_or_create(key, 64, init=lambda s: s.write(b"WHOLE")) as segment:
            assert segment.read(5) == b"WHOLE"

    with support.forked(run) as runner:
        assert os.read(receiving, 1) == b"!"
        with support.forked(wait) as waiter:
            time.sleep(0.1)
            assert os.waitpid(waiter, os.WNOHANG) == (0, 0)
            os.kill(runner, signal.SIGKILL)
            if reaped:
                os.waitpid(runner, 0)
            assert support.exit_status(waiter, 10) == 0
    os.close(receiving)
    os.close(sending)


def test_a_stopped_init_is_not_robbed_and_a_signal_ends_the_wait(key):
    """A stopped process is slow, not dead: who waits keeps waiting, until a handler raises."""
    receiving, sending = os.pipe()

    def run():
        def init(segment):
            os.write(sending, b"!")
            time.sleep(0.5)
            segment.write(b"done")

        Segment.open_or_create(key, 64, init=init).close()

    def alarmed(number, frame):
        raise InterruptedError("alarm")

    with support.forked(run) as runner:
        assert os.read(receiving, 1) == b"!"
        os.kill(runner, signal.SIGSTOP)
        former = signal.signal(signal.SIGALRM, alarmed)
        try:
            for init in (lambda _: pytest.fail("robbed"), None):
                signal.setitimer(signal.ITIMER_REAL, 0.7)
                with pytest.raises(InterruptedError):
                    Segment.open_or_create(key, 64, init=init)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        os.kill(runner, signal.SIGCONT)
        with Segment.open_or_create(key, 64, init=lambda _: pytest.fail("twice")) as segment:
            assert segment.read(4) == b"done"
        assert support.exit_status(runner) == 0
    os.close(receiving)
    os.close(sending)


def test_a_creator_that_died_before_the_tail_is_finished_by_the_next(key):
    """Killed right after shmget, it leaves a key with an empty tail: the next opener fills it."""
    with Segment.open_or_create(key, 5000) as probe:
        kernel_size = probe.stat().size
        probe.remove()
    id = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(kernel_size), IPC_CREAT | 0o600)
    with Segment.open_or_create(key, 5000, init=lambda s: s.write(b"whole")) as segment:
        assert (segment.id, segment.size, segment.read(5)) == (id, 5000, b"whole")
        assert segment.nonce != 0


@pytest.mark.parametrize("size", [64, 3955])
def test_a_segment_made_by_other_means_has_no_init_flag(key, size):
    """With init it is LayoutError; without, it is opened as it is."""
    id = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(size), IPC_CREAT | 0o600)
    with Segment.open(id=id) as foreign:
        ctypes.c_uint64.from_address(foreign.pages.address + TAIL).value = 0xDEAD
        with pytest.raises(memfast.LayoutError, match="other"):
            Segment.open_or_create(key, 64, init=lambda _: pytest.fail("ran"))
        with Segment.open_or_create(key, 64) as segment:
            assert (segment.id, segment.size, segment.nonce) == (id, size, 0)
        assert foreign.stat().nattch == 1


@pytest.mark.parametrize("word", [0, 1, 2**22 - 1, 2**25 - 1, 2**63, 2**64 - 1])
def test_a_forged_init_word_does_no_harm(key, word):
    """Any word is free, done, dead or unknown: init runs once, or a signal ends the wait."""
    with Segment.open_or_create(key, 64) as segment:
        place = segment.pages.address + segment.stat().size // PAGE * PAGE + TAIL + 24
        ctypes.c_uint64.from_address(place).value = word

        def alarmed(number, frame):
            raise InterruptedError("alarm")

        former = signal.signal(signal.SIGALRM, alarmed)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        ran = []
        try:
            Segment.open_or_create(key, 64, init=ran.append).close()
        except InterruptedError:
            assert not ran
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        assert len(ran) <= 1


def test_bad_arguments_make_nothing(key):
    """A key of 0 or out of range, a size of 0, an init that is no function: no key is taken."""
    for arguments in [(0, 64), (-1, 64), (1 << 32, 64), (key, 0), (key, -1)]:
        with pytest.raises(ValueError):
            Segment.open_or_create(*arguments)
    with pytest.raises(TypeError, match="cannot be called"):
        Segment.open_or_create(key, 64, init=7)
    with pytest.raises(memfast.NotFoundError):
        shm.attach_segment(None, key, True)
