"""csrc/ring.c in Python: a ring for one sender and one receiver, in memory given to it."""

from __future__ import annotations

import errno

from memfast import _fast, errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

__all__ = [
    "CAPACITY_MAX",
    "Receiver",
    "RingStats",
    "Sender",
    "capacity_for",
    "check",
    "make",
    "message_max",
    "size",
    "stats",
]

CAPACITY_MAX = 1 << 36


class RingStats(NamedTuple):
    """What mf_ring_stats() reports; a pid of 0 is nobody."""

    capacity: int
    used: int
    messages_sent: int
    bytes_sent: int
    messages_received: int
    waits: int
    sender_pid: int
    receiver_pid: int


def capacity_for(wanted: int) -> int:
    """Return the capacity of a ring that should hold *wanted* bytes: the next power of two."""
    if not isinstance(wanted, int):
        raise TypeError(f"capacity is a number of bytes, not {type(wanted).__name__}")
    if not 0 < wanted <= CAPACITY_MAX:
        raise ValueError(f"capacity of {wanted} bytes: it must be from 1 to {CAPACITY_MAX}")
    return max(int(lib.MF_RING_CAPACITY_MIN), 1 << (wanted - 1).bit_length())


def size(capacity: int) -> int:
    """Return how many bytes of memory a ring of this capacity takes."""
    return int(lib.mf_ring_size(capacity))


def message_max(capacity: int) -> int:
    """Return the largest message, in bytes, that a ring of this capacity takes."""
    return int(lib.mf_ring_message_max(capacity))


def _memory(pages: _fast.Pages) -> tuple[Any, int]:
    return ffi.cast("void *", pages.address), memoryview(pages).nbytes


def make(pages: _fast.Pages, capacity: int, first_count: int = 0) -> None:
    """Make a ring in zeroed memory; *first_count* other than 0 is for tests of wrapping."""
    memory, memory_size = _memory(pages)
    if memoryview(pages).readonly:
        errors.raise_errno(-errno.EACCES, "making a ring in a read-only attachment")
    status = lib.mf_ring_format(memory, memory_size, capacity, first_count)
    errors.check(status, f"making a ring of {capacity} bytes in {memory_size} bytes of memory")


def check(pages: _fast.Pages) -> int:
    """
    Return the capacity of the ring that the memory holds.

    Raises:
        LayoutError: It holds none, a damaged one, or one of another version.
    """
    memory, memory_size = _memory(pages)
    capacity = ffi.new("uint64_t *")
    status = lib.mf_ring_check(memory, memory_size, capacity)
    if status:
        _raise_layout(status, int(lib.mf_ring_version(memory, memory_size)))
    return int(capacity[0])


def _raise_layout(status: int, version: int) -> NoReturn:
    if status == -errno.EPROTONOSUPPORT:
        raise errors.LayoutError(
            f"the ring has layout version {version}, this memfast speaks "
            f"{lib.MF_LAYOUT_VERSION}: run the same version at both ends"
        )
    raise errors.LayoutError("the memory holds no ring of memfast, or a damaged one")


def stats(pages: _fast.Pages) -> RingStats:
    """Return what has gone through the ring, without disturbing either end."""
    memory, memory_size = _memory(pages)
    found = ffi.new("struct mf_ring_stats *")
    status = lib.mf_ring_stats(memory, memory_size, found)
    if status:
        _raise_layout(status, int(lib.mf_ring_version(memory, memory_size)))
    return RingStats(
        found.capacity,
        found.used,
        found.messages_sent,
        found.bytes_sent,
        found.messages_received,
        found.waits,
        found.sender_pid,
        found.receiver_pid,
    )


def _raise(end: str, peer: str, status: int, detail: int, bound: int) -> NoReturn:
    """Turn what an end's C code reports into the exception for it."""
    code = -status
    if code == errno.ETIMEDOUT:
        what = "no room" if end == "sender" else "no message"
        who = f"the {peer} is process {detail}" if detail else f"nobody holds the {peer}'s end"
        raise errors.WaitTimeout(code, f"{what} in the time given; {who}")
    if code == errno.EPIPE:
        if end == "sender":
            raise errors.ClosedError(
                "the receiver closed its end; what it had not received stays for the next one"
            )
        raise errors.ClosedError("the sender closed its end, and all it sent was received")
    if code == errno.EBADF:
        raise errors.ClosedError(f"this {end} is closed, or was pickled to another process")
    if code == errno.ECONNRESET:
        raise errors.PeerDiedError(
            detail, code, f"the {peer}, process {detail}, died without closing the channel"
        )
    if code == errno.EBUSY:
        raise errors.RoleTakenError(
            detail,
            code,
            f"process {detail} is the {end} of this channel and lives; a channel has one "
            f"{end} at a time",
        )
    if code == errno.ECHILD:
        raise errors.RoleTakenError(
            detail,
            errno.EBUSY,
            f"this {end} was claimed by process {detail} before the fork and is still its; "
            f"pass the Channel and claim the {end} in the child, or pickle the {end}",
        )
    if code == errno.EMSGSIZE:
        raise errors.MessageTooLarge(
            f"a message of {detail} bytes: this channel takes up to {bound}; "
            f"create it with a larger capacity"
        )
    if code == errno.ENOBUFS:
        raise errors.MessageTooLarge(
            f"the next message has {detail} bytes, more than the buffer; it stays in the channel"
        )
    if code == errno.EINPROGRESS:
        raise RuntimeError(f"this {end} has an open loan or borrow; leave its block first")
    if code in (errno.EPROTO, errno.EPROTONOSUPPORT, errno.ESTALE):
        raise errors.LayoutError(
            f"the {end} found bytes in the channel that no {peer} of memfast writes "
            f"({errno.errorcode[code]}); create it anew"
        )
    errors.raise_errno(status, f"claiming the {end} of a channel")


class Sender(_fast.Sender):
    """
    The writing end of a ring, held by one process until close() or its death.

    Its threads may share it: each message goes in whole. Sending costs one copy
    and no system call unless the receiver sleeps.
    """

    __slots__ = ("__weakref__",)

    def _fail(self, status: int, detail: int) -> NoReturn:
        _raise("sender", "receiver", status, detail, self.max_message)

    @classmethod
    def claim(cls, pages: _fast.Pages, handed_by: int = 0) -> Self:
        """Take the role, or take it over from who pickled it (*handed_by*: its claim)."""
        return cls(pages, True, handed_by)


class Receiver(_fast.Receiver):
    """
    The reading end of a ring, held by one process until close() or its death.

    Its threads may share it: each message is received once, by one of them.
    """

    __slots__ = ("__weakref__",)

    def _fail(self, status: int, detail: int) -> NoReturn:
        _raise("receiver", "sender", status, detail, self.max_message)

    @classmethod
    def claim(cls, pages: _fast.Pages, handed_by: int = 0) -> Self:
        """Take the role, or take it over from who pickled it (*handed_by*: its claim)."""
        return cls(pages, False, handed_by)
