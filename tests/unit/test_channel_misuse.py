"""Odd orders and odd objects: each of these once crashed, lost, doubled or leaked something."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import support

import memfast


def test_a_loan_with_a_view_left_is_not_sent(ends):
    """An array kept from the block could change the message, and later ones, after it was sent."""
    sender, receiver = ends
    loan = sender.loan(8)
    kept = np.frombuffer(loan.__enter__(), "u1")
    with pytest.raises(BufferError, match="was not sent"):
        loan.__exit__(None, None, None)
    assert receiver.try_recv() is None
    sender.send(b"later")
    with receiver.borrow() as view:
        assert view == b"later"
    del kept


def test_a_loan_that_nobody_entered_is_not_sent(ends):
    """Leaving without entering sends no bytes that nobody wrote."""
    sender, receiver = ends
    sender.loan(3).__exit__(None, None, None)
    assert receiver.try_recv() is None
    sender.send(b"x")
    assert receiver.recv() == b"x"


def test_a_borrow_that_nobody_entered_takes_nothing(ends, channel):
    """Called and dropped: the message is still the next one."""
    sender, receiver = ends
    sender.send_many([b"one", b"two"])
    receiver.borrow()
    assert receiver.recv() == b"one"
    assert receiver.recv() == b"two"
    assert channel.stats().messages_received == 2


def test_closing_with_a_view_left_doubles_nothing_and_keeps_the_view(ends, channel):
    """The end goes back with the last view, and what recv() returned is not sent again."""
    sender, receiver = ends
    sender.send_many([b"0" * 500, b"1" * 500, b"2" * 500])
    with receiver.borrow() as view:
        kept = np.frombuffer(view, "u1")
    del view
    assert receiver.recv() == b"1" * 500
    receiver.close()
    with pytest.raises(memfast.RoleTakenError):
        channel.receiver()
    while sender.try_send(b"x" * 500):
        pass
    assert kept.tobytes() == b"0" * 500
    del kept
    gc.collect()
    with channel.receiver() as second:
        assert second.recv() == b"2" * 500


def test_an_end_whose_pickle_was_never_loaded_is_taken_back(channel):
    """A spawn that fails after the end was pickled does not lose the role."""
    sender = channel.sender()
    handle = pickle.dumps(sender)
    with pytest.raises(memfast.ClosedError):
        sender.send(b"x")
    again = channel.sender()
    again.send(b"here")
    with pytest.raises(memfast.RoleTakenError):
        pickle.loads(handle)
    sender.close()
    with channel.receiver() as receiver:
        assert receiver.recv() == b"here"
    again.close()


def test_an_end_of_a_closed_channel_is_not_given_up_by_a_pickle_that_fails():
    """It can be used on; only its Channel handle was closed."""
    channel = memfast.Channel.create()
    sender = channel.sender()
    channel.close()
    with pytest.raises(memfast.ClosedError):
        pickle.dumps(sender)
    sender.send(b"still mine")
    sender.close()


def test_a_name_goes_with_the_last_end_too(name):
    """Channel closed first, end later; or both only forgotten."""
    path = support.NAMES / f"{name}.channel"
    channel = memfast.Channel.create(name)
    sender = channel.sender()
    channel.close()
    assert path.exists()
    sender.close()
    assert not path.exists()
    sender = memfast.Channel.create(name).sender()
    assert path.exists()
    del sender
    gc.collect()
    assert not path.exists()


def test_only_trying_tells_a_death_too(channel):
    """recv(timeout=0) of a poller learns that nobody will send any more."""
    with channel.receiver() as receiver:
        with support.forked(
            lambda: (channel.sender(), os.kill(os.getpid(), signal.SIGKILL))
        ) as pid:
            support.until(lambda: channel.stats().peers.sender == pid)
            support.until(lambda: raises(memfast.PeerDiedError, receiver))
        assert receiver.try_recv() is None


def raises(kind: type[BaseException], receiver: memfast.Receiver) -> bool:
    try:
        receiver.recv(timeout=0)
    except memfast.WaitTimeout:
        return False
    except kind:
        return True
    return False


def test_timeouts_say_what_they_waited_for(ends, channel):
    """Who is at the other end, or that nobody is."""
    _, receiver = ends
    with pytest.raises(memfast.WaitTimeout, match=f"the sender is process {os.getpid()}"):
        receiver.recv(timeout=0.02)
    with (
        memfast.Channel.create() as other,
        other.receiver() as alone,
        pytest.raises(memfast.WaitTimeout, match="nobody holds the sender's end"),
    ):
        alone.recv(timeout=0.02)


def test_open_refuses_a_timeout_that_is_no_number(name):
    """NaN would never be over."""
    with pytest.raises(ValueError, match="not a number"):
        memfast.Channel.open(name, timeout=float("nan"))


def test_a_child_forked_while_a_thread_waits_can_detach(channel):
    """Nobody waits in the child: its close() lets the memory go."""
    receiver = channel.receiver()
    thread = threading.Thread(target=lambda: support.swallow(memfast.ClosedError, receiver.recv))
    thread.start()
    segment_id = channel.id

    def child() -> None:
        receiver.close()
        channel.close()
        maps = Path("/proc/self/maps").read_text()
        assert f" {segment_id} " not in maps, maps

    with support.forked(child) as pid:
        assert support.exit_status(pid) == 0
    receiver.close()
    thread.join(20)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
@pytest.mark.parametrize("call", ["send", "try_send", "send_many"])
def test_a_buffer_that_closes_the_end_while_it_is_sent(channel, call):
    """The end is looked at after the object's own code ran: ClosedError, not a crash."""
    sender, receiver = channel.sender(), channel.receiver()

    class Closing:
        def __buffer__(self, flags: int) -> memoryview:
            sender.close()
            receiver.close()
            channel.close()
            return memoryview(b"bytes")

    argument = [Closing()] if call == "send_many" else Closing()
    with pytest.raises(memfast.ClosedError):
        getattr(sender, call)(argument)


def test_a_second_import_of_the_extension_mixes_nothing_up():
    """What the first one lent stays read-only and is freed in order."""
    code = (
        "import sys, memfast\n"
        "ch = memfast.Channel.create()\n"
        "tx, rx = ch.sender(), ch.receiver()\n"
        "tx.send(b'abc'); tx.send(b'def')\n"
        "borrow = rx.borrow()\n"
        "view = borrow.__enter__()\n"
        "del sys.modules['memfast._fast']\n"
        "import memfast._fast\n"
        "print(memoryview(borrow).readonly)\n"
        "view.release(); borrow.__exit__(None, None, None); del borrow\n"
        "print(rx.recv(), ch.stats().messages_received)\n"
    )
    assert support.run_python(code).splitlines() == ["True", "b'def' 2"]
