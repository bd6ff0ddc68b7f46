"""
The channel: one sender and one receiver, in two processes, through shared memory.

A composition: a segment (sysv) that holds a ring (ring), under a name (name) if
it has one, with two ends (ends).
"""

from __future__ import annotations

import errno
import os
import time
import weakref

from memfast import errors, ring, shm
from memfast import name as _name
from memfast.ends import Receiver, Sender, close_at_exit
from memfast.records import NamedTuple
from memfast.segment import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TypeVar

    _End = TypeVar("_End", Sender, Receiver)

__all__ = ["Channel", "ChannelStats", "Peers", "Receiver", "Sender"]

_KIND = "channel"


class Peers(NamedTuple):
    """The pids that hold the ends, or None where an end is free or was given back."""

    sender: int | None
    receiver: int | None


class ChannelStats(NamedTuple):
    """What has gone through a channel, and what is in it."""

    capacity: int  # bytes
    used: int  # payload bytes sent and not yet received
    messages_sent: int
    bytes_sent: int
    messages_received: int
    waits: int  # how often an end went to sleep
    peers: Peers


def _alive(segment_id: int, nonce: int) -> bool:
    """Whether the segment that a name record speaks of still exists."""
    return shm.attach_life(segment_id, nonce) is not None


def _refuse_foreign(segment: Segment) -> None:
    """Take no part in a channel that another user made or may write to."""
    found = segment.stat()
    if found.uid != os.geteuid() or found.cuid != found.uid or found.mode & 0o022:
        raise errors.AccessError(
            errno.EACCES,
            f"segment {segment.id} is no channel of ours: owner {found.uid}, creator {found.cuid}, "
            f"mode {found.mode:04o}; a channel is its own user's alone",
        )


def _segment_of(name: str) -> Segment:
    segment_id, nonce = _name.find_segment(name, _KIND)
    try:
        segment = Segment.open(id=segment_id)
        if segment.nonce == nonce:
            return segment
        segment.close()
    except errors.NotFoundError:
        pass
    _name.forget_segment(name, _KIND, segment_id, nonce)
    raise errors.StaleHandleError(
        errno.ESTALE, f"opening channel {name!r}: its last user is gone; the name was removed"
    )


def _let_go(name: str | None, segment: Segment) -> None:
    """
    Detach, and remove the name if nobody but us has the memory attached.

    The count of attachments is no proof of anybody's life, but here a wrong one
    only leaves a name that the next open removes.
    """
    if name is not None and segment.stat().nattch <= 1:
        _name.forget_segment(name, _KIND, segment.id, segment.nonce)
    segment.close()


class Channel:
    """
    Messages from one process to another, through memory that both have attached.

    A channel is created by one process and reaches the other by fork, by pickle
    (also as an argument of a multiprocessing.Process) or by name; each then
    claims one end. Its memory is a System V segment that the kernel frees with
    the last process that has it, however that process ends. Creating costs a
    few system calls and the population of twice the capacity; see ``sender()``
    and ``receiver()`` for the rest.
    """

    __slots__ = ("__weakref__", "_claimed", "_closed", "_finalize", "_segment", "capacity", "name")

    capacity: int  #: bytes of payload that fit
    name: str | None  #: what others open it by

    def __init__(self, segment: Segment, name: str | None = None) -> None:
        """Not for users: see create() and open()."""
        if not isinstance(segment, Segment):
            raise TypeError("a Channel comes from Channel.create() or Channel.open()")
        _refuse_foreign(segment)
        self.capacity = ring.check(segment.pages)
        self.name = name
        self._segment = segment
        self._closed = False
        self._claimed: list[weakref.ref[Sender | Receiver]] = []
        self._finalize = weakref.finalize(self, _let_go, name, segment)

    @classmethod
    def create(cls, name: str | None = None, *, capacity: int = 1 << 16) -> Channel:
        """
        Create a channel; anonymous, unless it gets a name for others to open.

        Args:
            name: 1 to 100 letters, digits, dots, hyphens and underscores, not
                beginning with a dot. Seen by processes of the same user. A name
                whose last user is gone is replaced.

            capacity: Bytes of payload that fit, rounded up to a power of two
                and to 4,096; also the largest message. Twice that is reserved
                at once. Small messages take 128 bytes each. A ring that fits
                into the second-level cache is the fastest: think twice before
                asking for more than 256 KiB for small messages.

        Raises:
            ExistsError: A live channel has the name.

            NoSpaceError, LimitError: No room, or a kernel limit: the message says which.

            ValueError: A capacity or a name that cannot be.
        """
        rounded = ring.capacity_for(capacity)
        if name is not None:
            _name.check(name)
        segment = Segment.create(ring.size(rounded))
        try:
            ring.make(segment.pages, rounded)
            if name is not None:
                _name.publish_segment(name, _KIND, segment.id, segment.nonce, _alive)
            return cls(segment, name)
        except BaseException:
            segment.close()
            raise

    @classmethod
    def open(cls, name: str, *, timeout: float | None = 0) -> Channel:
        """
        Open a channel by the name it was created with, by a process of the same user.

        Args:
            timeout: Seconds to wait for the name to appear; None: for ever; 0: only try.

        Raises:
            NotFoundError: No such name; StaleHandleError: its last user is
                gone (the name is removed).

            LayoutError: It is not a channel of this version of memfast.
        """
        _name.check(name)
        if timeout is not None and not timeout >= 0 and not timeout < 0:
            raise ValueError("timeout is not a number")
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while True:
            try:
                return cls(_segment_of(name), name)
            except errors.NotFoundError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            time.sleep(
                pause if deadline is None else min(pause, max(0.0, deadline - time.monotonic()))
            )
            pause = min(2 * pause, 0.02)

    @property
    def max_message(self) -> int:
        """The largest message that fits, in bytes."""
        return ring.message_max(self.capacity)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._closed

    @property
    def id(self) -> int:
        """The id of the System V segment that holds the channel, as ipcs(1) shows it."""
        return self._segment.id

    def sender(self) -> Sender:
        """
        Claim the writing end for this process.

        Raises:
            RoleTakenError: A live process has it (or it cannot be known that
                that process is dead); its ``pid`` says who.
        """
        return self._claim(Sender, 0)

    def receiver(self) -> Receiver:
        """
        Claim the reading end for this process; what the last one left is received first.

        Raises:
            RoleTakenError: A live process has it; its ``pid`` says who.
        """
        return self._claim(Receiver, 0)

    def _claim(self, kind: type[_End], handed_by: int) -> _End:
        self._check_open()
        mine = self._ends_of(kind)
        # An end that was pickled here and that nobody has loaded is taken back.
        end = kind.claim(
            self._segment.pages, handed_by or max((one._handed_on for one in mine), default=0)
        )
        end._channel = self
        self._claimed = [reference for reference in self._claimed if reference() is not None]
        channel = weakref.ref(self)

        def died(_: object) -> None:
            owner = channel()
            if owner is not None:
                owner._end_closed()

        self._claimed.append(weakref.ref(end, died))
        close_at_exit(end)
        return end

    def _ends_of(self, kind: type[_End]) -> list[_End]:
        ends = (reference() for reference in list(self._claimed))
        return [end for end in ends if isinstance(end, kind)]

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ClosedError(f"{self!r}: this handle was closed; open the channel anew")

    def stats(self) -> ChannelStats:
        """Return what has gone through; disturbs neither end, costs no system call."""
        self._check_open()
        found = ring.stats(self._segment.pages)
        return ChannelStats(*found[:6], Peers(found.sender_pid or None, found.receiver_pid or None))

    def close(self) -> None:
        """
        Let go of this handle; ends claimed from it stay open.

        The name goes with the channel's last user. Closing twice is fine; it never raises.
        """
        self._closed = True
        self._end_closed()

    def _end_closed(self) -> None:
        """Let the memory go once the handle and every end of it are closed."""
        ends = (reference() for reference in list(self._claimed))
        if self._closed and all(end is None or end.closed for end in ends):
            self._finalize()

    def __reduce__(self) -> tuple[object, ...]:
        self._check_open()
        return Channel, (self._segment, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed " if self.closed else ""
        which = repr(self.name) if self.name is not None else f"anonymous, id {self.id}"
        return f"<memfast.Channel {state}{which}, capacity {self.capacity}>"
