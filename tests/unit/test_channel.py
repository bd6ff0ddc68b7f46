"""One process holds both ends: what a channel takes, gives, refuses and reports."""

from __future__ import annotations

import array
import gc
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import memfast

SIZES = [0, 1, 7, 8, 55, 56, 57, 63, 64, 119, 120, 121, 128, 4000, 4095, 4096]


def numbered(number: int, size: int) -> bytes:
    return bytes((number * 13 + at * 7) & 0xFF for at in range(size))


# ---- what goes through ----


@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_arrives_as_it_was(ends, size):
    """Every size from nothing to the whole capacity, at whatever place the ring has come to."""
    sender, receiver = ends
    for number in range(70):
        sender.send(numbered(number, size), timeout=5)
        assert receiver.recv(timeout=5) == numbered(number, size)


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"a memoryview")[2:],
        array.array("d", [1.0, 2.5]),
        np.arange(12, dtype="i4").reshape(3, 4),
    ],
    ids=lambda data: type(data).__name__,
)
def test_any_contiguous_buffer_is_a_message(ends, data):
    """What arrives are the buffer's bytes."""
    sender, receiver = ends
    sender.send(data)
    assert sender.try_send(data) is True
    assert receiver.recv() == receiver.recv() == memoryview(data).tobytes()


def test_messages_of_all_sizes_keep_their_order(ends):
    """Small ones in slots and large ones in the arena come out as one sequence."""
    sender, receiver = ends
    expected, got = [], []
    for number in range(3000):
        message = numbered(number, SIZES[number * 7 % len(SIZES)])
        while not sender.try_send(message):
            got.append(receiver.recv(timeout=5))
        expected.append(message)
    while (message := receiver.try_recv()) is not None:
        got.append(message)
    assert got == expected


def test_a_full_channel_takes_no_more_and_loses_nothing(ends):
    """try_send says False, a timed send raises, and what was there is still there."""
    sender, receiver = ends
    sent = 0
    while sender.try_send(b"x"):
        sent += 1
    assert sent == 32  # 4,096 bytes in slots of 128
    with pytest.raises(memfast.WaitTimeout):
        sender.send(b"y", timeout=0.01)
    with pytest.raises(TimeoutError):
        sender.send(b"y", timeout=0)
    assert receiver.recv_many() == [b"x"] * 32
    sender.send(b"y", timeout=5)
    assert receiver.recv() == b"y"


def test_send_many_says_how_many_went(ends):
    """All of them if there is room; as many as there is room for until the timeout."""
    sender, receiver = ends
    assert sender.send_many([b"a", bytearray(b"b"), memoryview(b"c")]) == 3
    assert sender.send_many(()) == 0
    assert sender.send_many(iter([b"d"])) == 1
    assert receiver.recv_many() == [b"a", b"b", b"c", b"d"]
    assert sender.send_many([b"e"] * 100, timeout=0.01) == 32
    assert receiver.recv_many(max=5) == [b"e"] * 5
    assert sender.send_many([b"f"] * 100, timeout=0) == 5


def test_send_many_checks_all_before_it_sends_any(ends):
    """One bad item, and nothing was sent."""
    sender, receiver = ends
    with pytest.raises(TypeError):
        sender.send_many([b"good", "bad"])
    with pytest.raises(memfast.MessageTooLarge):
        sender.send_many([b"good", b"x" * 4097])
    with pytest.raises(TypeError):
        sender.send_many(b"one message")
    assert receiver.try_recv() is None


def test_recv_into_fills_the_buffer_and_says_how_far(ends):
    """The buffer's rest is untouched; a buffer too small raises and the message stays."""
    sender, receiver = ends
    sender.send(b"abc")
    sender.send(b"defgh")
    buffer = bytearray(b"......")
    assert receiver.recv_into(buffer) == 3
    assert buffer == b"abc..."
    with pytest.raises(memfast.MessageTooLarge, match="5 bytes"):
        receiver.recv_into(memoryview(buffer)[:4])
    with pytest.raises(BufferError):
        receiver.recv_into(b"read-only.")
    assert receiver.recv_into(buffer, timeout=1) == 5
    assert buffer == b"defgh."


def test_waiting_receivers_time_out(ends):
    """timeout=0 only tries; a timed one waits its time; both raise what TimeoutError catches."""
    _, receiver = ends
    assert receiver.try_recv() is None
    for receive in (receiver.recv, receiver.recv_many, receiver.borrow):
        with pytest.raises(memfast.WaitTimeout):
            receive(timeout=0)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        receiver.recv(timeout=0.07)
    assert time.monotonic() - begin >= 0.07
    with pytest.raises(memfast.WaitTimeout):
        receiver.recv_into(bytearray(1), timeout=-1)
    with pytest.raises(ValueError, match="not a number"):
        receiver.recv(timeout=float("nan"))
    with pytest.raises(TypeError):
        receiver.recv(timeout="1")
    with pytest.raises(TypeError, match="unexpected keyword"):
        receiver.recv(time=1)


# ---- in place ----


def test_a_loan_is_sent_at_the_end_of_its_block(ends):
    """Written in place, of any size; its view is of no use afterwards."""
    sender, receiver = ends
    for size in SIZES:
        with sender.loan(size) as out:
            assert len(out) == size
            assert not out.readonly
            out[:] = numbered(size, size)
            assert receiver.try_recv() is None
        assert receiver.recv(timeout=1) == numbered(size, size)
        with pytest.raises(ValueError, match="released"):
            out[:] = b""


def test_a_loan_is_dropped_on_an_exception_or_when_forgotten(ends):
    """Nothing is sent, and the end works on."""
    sender, receiver = ends
    loan = sender.loan(9)
    loan.__enter__()[:] = b"unwritten"
    assert not loan.__exit__(KeyError, KeyError(), None)
    sender.loan(9)
    gc.collect()
    sender.send(b"after")
    assert receiver.recv() == b"after"
    assert receiver.try_recv() is None


def test_one_loan_at_a_time(ends):
    """While one is open, sending anything else would overtake it: refused, nothing sent."""
    sender, receiver = ends
    with sender.loan(3) as out:
        for call, argument in ((sender.send, b"x"), (sender.loan, 1), (pickle.dumps, sender)):
            with pytest.raises(RuntimeError, match="loan"):
                call(argument)
        out[:] = b"abc"
    assert receiver.recv() == b"abc"
    with pytest.raises(memfast.MessageTooLarge):
        sender.loan(4097)
    with pytest.raises(ValueError, match="0 or more"):
        sender.loan(-1)


def test_a_borrowed_message_is_read_in_place_and_read_only(ends):
    """The block's view shows it; afterwards the room is free and the view of no use."""
    sender, receiver = ends
    for size in SIZES:
        sender.send(numbered(1, size), timeout=5)
        with receiver.borrow(timeout=1) as view:
            assert view.readonly
            assert view == numbered(1, size)
        with pytest.raises(ValueError, match="released"):
            view.tobytes()


def test_views_outlive_the_borrow_and_stall_the_sender_only(ends, channel):
    """A NumPy array keeps its message whole; the room is freed in order at its death."""
    sender, receiver = ends
    sender.send(numbered(1, 1000))
    with receiver.borrow() as view:
        kept = np.frombuffer(view, "u1")
    del view
    taken = 0
    while sender.try_send(numbered(2, 1000)):
        assert receiver.recv() == numbered(2, 1000)
        taken += 1
    assert taken == 3  # the fourth would lie where the kept one is
    assert kept.tobytes() == numbered(1, 1000)
    assert channel.stats().messages_received == 0
    del kept
    gc.collect()
    assert channel.stats().messages_received == 4
    sender.send(numbered(3, 4096), timeout=5)
    assert receiver.recv() == numbered(3, 4096)


def test_borrows_may_end_in_any_order(ends, channel):
    """Rooms are given back oldest first, whatever the order in which they are let go."""
    sender, receiver = ends
    sender.send_many([numbered(n, 500) for n in range(4)])
    first, second, third = (receiver.borrow() for _ in range(3))
    second.__exit__(None, None, None)
    assert channel.stats().messages_received == 0
    first.__exit__(None, None, None)
    assert channel.stats().messages_received == 2
    with third as view:
        assert view == numbered(2, 500)
    assert channel.stats().messages_received == 3
    assert receiver.recv() == numbered(3, 500)


def test_a_view_outlives_every_handle():
    """Ends and channel closed and gone: the pages stay while a view of them lives."""
    channel = memfast.Channel.create()
    sender, receiver = channel.sender(), channel.receiver()
    sender.send(numbered(5, 5000))
    borrow = receiver.borrow()
    view = borrow.__enter__()
    for handle in (sender, receiver, channel):
        handle.close()
    del sender, receiver, channel, borrow
    gc.collect()
    assert view == numbered(5, 5000)


def test_a_lent_view_outlives_every_handle():
    """Written to after all was closed: the bytes go nowhere, and nothing crashes."""
    channel = memfast.Channel.create()
    sender = channel.sender()
    loan = sender.loan(5000)
    view = loan.__enter__()
    for handle in (sender, channel):
        handle.close()
    del sender, channel, handle
    gc.collect()
    view[:] = numbered(5, 5000)
    assert view == numbered(5, 5000)


# ---- the end of it ----


def test_closing_the_sender_lets_the_receiver_drain(ends):
    """All that was sent arrives, then ClosedError, which EOFError and ValueError catch too."""
    sender, receiver = ends
    sender.send_many([b"1", b"2", b"3"])
    sender.close()
    assert receiver.recv() == b"1"
    assert list(receiver) == [b"2", b"3"]
    for receive in (receiver.recv, receiver.try_recv, receiver.recv_many, receiver.borrow):
        with pytest.raises(memfast.ClosedError):
            receive()
    with pytest.raises(EOFError):
        receiver.recv()


def test_closing_the_receiver_tells_the_sender(ends, channel):
    """The next send raises; a new receiver gets what the old one left."""
    sender, receiver = ends
    sender.send(b"left")
    receiver.close()
    for send in (lambda: sender.send(b"x"), lambda: sender.try_send(b"x"), lambda: sender.loan(1)):
        with pytest.raises(memfast.ClosedError):
            send()
    with channel.receiver() as second:
        sender.send(b"more")
        assert [second.recv(), second.recv()] == [b"left", b"more"]


def test_close_is_idempotent_and_a_closed_handle_says_so(ends, channel):
    """Nothing but ClosedError comes from a closed end or channel."""
    sender, receiver = ends
    for handle in (sender, receiver, channel):
        assert not handle.closed
        handle.close()
        handle.close()
        assert handle.closed
        repr(handle)
    calls = [
        lambda: sender.send(b""),
        lambda: sender.try_send(b""),
        lambda: sender.send_many([b""]),
        lambda: sender.loan(0),
        receiver.recv,
        receiver.try_recv,
        receiver.recv_many,
        receiver.borrow,
        lambda: receiver.recv_into(bytearray(1)),
        lambda: next(receiver),
        channel.sender,
        channel.stats,
    ]
    for call in calls:
        with pytest.raises(memfast.ClosedError):
            call()


@pytest.mark.parametrize("which", ["receiver", "sender"])
def test_close_in_another_thread_wakes_a_waiting_call(channel, which):
    """recv and a blocked send both end with ClosedError, and the memory stays until they do."""
    sender, receiver = channel.sender(), channel.receiver()
    if which == "sender":
        sender.send(b"x" * 4096)
    call, end = (receiver.recv, receiver) if which == "receiver" else (sender.send, sender)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            call() if which == "receiver" else call(b"x" * 4096)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    end.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [memfast.ClosedError]
    sender.close()
    receiver.close()


def test_threads_may_share_an_end(channel):
    """Each message goes in whole and comes out once, whichever threads do it."""
    count, threads = 3000, 3
    got: list[bytes] = []
    with channel.sender() as sender, channel.receiver() as receiver:

        def send(which: int) -> None:
            for number in range(count):
                sender.send(f"{which} {number}".encode() * 9, timeout=30)

        def receive() -> None:
            for _ in range(count):
                got.append(receiver.recv(timeout=30))

        workers = [threading.Thread(target=send, args=(which,)) for which in range(threads)]
        workers += [threading.Thread(target=receive) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert sorted(got) == sorted(
        f"{which} {number}".encode() * 9 for which in range(threads) for number in range(count)
    )


# ---- roles ----


def test_a_role_has_one_holder(ends, channel):
    """A second live one is refused, also in the same process; the error says who has it."""
    for claim in (channel.sender, channel.receiver):
        with pytest.raises(memfast.RoleTakenError) as caught:
            claim()
        assert caught.value.pid > 0
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, OSError)


def test_a_pickled_end_moves(ends, channel):
    """The new one works, the old one does not, and the role was never free."""
    sender, receiver = ends
    moved = pickle.loads(pickle.dumps(sender))
    with pytest.raises(memfast.ClosedError):
        sender.send(b"x")
    moved.send(b"moved")
    moved_receiver = pickle.loads(pickle.dumps(receiver))
    assert moved_receiver.recv() == b"moved"
    sender.close()
    moved.send(b"still open")
    assert moved_receiver.recv() == b"still open"
    moved.close()
    moved_receiver.close()


# ---- what it says of itself ----


def test_stats_count_what_went_through(ends, channel):
    """Messages, payload bytes, what waits inside, and who is at the ends."""
    sender, receiver = ends
    sender.send_many([b"four", b"", b"x" * 1000])
    receiver.recv()
    stats = channel.stats()
    assert (stats.capacity, stats.used) == (4096, 1000)
    assert (stats.messages_sent, stats.bytes_sent, stats.messages_received) == (3, 1004, 1)
    assert stats.peers.sender == stats.peers.receiver > 0
    sender.close()
    assert channel.stats().peers.sender is None


@pytest.mark.parametrize(
    ("asked", "given"), [(1, 4096), (4096, 4096), (4097, 8192), (100_000, 131_072)]
)
def test_capacity_is_rounded_up_and_is_the_largest_message(asked, given):
    """The next power of two, at least 4,096; max_message fits and one more byte does not."""
    with memfast.Channel.create(capacity=asked) as channel, channel.sender() as sender:
        assert channel.capacity == channel.max_message == sender.max_message == given
        sender.send(b"x" * given)
        with pytest.raises(memfast.MessageTooLarge, match=f"{given + 1} bytes.*up to {given}"):
            sender.send(b"x" * (given + 1))


@pytest.mark.parametrize("capacity", [0, -1, (1 << 36) + 1, 2**63, 2**200])
def test_an_impossible_capacity_is_refused(capacity):
    """Before any system call, with the bounds."""
    with pytest.raises(ValueError, match="capacity"):
        memfast.Channel.create(capacity=capacity)


@pytest.mark.parametrize("capacity", [1.5, "64k", None])
def test_a_capacity_is_a_number_of_bytes(capacity):
    """Anything else is a TypeError."""
    with pytest.raises(TypeError):
        memfast.Channel.create(capacity=capacity)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\0b", "x" * 101, "é", " "])
def test_an_impossible_name_is_refused(name):
    """By create and by open, before anything is made."""
    for make in (memfast.Channel.create, memfast.Channel.open):
        with pytest.raises(ValueError, match="name"):
            make(name)


def test_a_signal_handler_runs_while_recv_waits(ends):
    """KeyboardInterrupt arrives; after a handler that returns, the rest of the time is waited."""
    sender, receiver = ends
    calls = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        begin = time.monotonic()
        with pytest.raises(memfast.WaitTimeout):
            receiver.recv(timeout=0.2)
        assert time.monotonic() - begin >= 0.2
        assert len(calls) >= 3
        signal.signal(signal.SIGALRM, lambda *_: sender.send(b"from the handler"))
        assert receiver.recv(timeout=5) == b"from the handler"
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while receiver.try_recv() is not None:
            pass
        with pytest.raises(KeyboardInterrupt):
            receiver.recv(timeout=10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
