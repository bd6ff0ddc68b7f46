"""csrc/sysvlist.c and sysvtable.c in Python: all System V objects, their usage and limits."""

from __future__ import annotations

import errno
import struct
from itertools import repeat
from operator import add

from memfast import errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal

    Kind = Literal["shm", "sem", "msg"]

__all__ = [
    "Limits",
    "MessageQueue",
    "SegmentInfo",
    "Semaphore",
    "SemaphoreArray",
    "Usage",
    "limits",
    "message_queues",
    "segments",
    "semaphore_values",
    "semaphores",
    "usage",
]

_MORE = 16  # rows for what is made between two system calls; if that was too few, ask again
_KINDS = {"shm": lib.MF_SYSVLIST_SHM, "sem": lib.MF_SYSVLIST_SEM, "msg": lib.MF_SYSVLIST_MSG}
# How rows lie: struct mf_sysvlist_segment, _array and _queue.
_SEGMENT = struct.Struct("=2qQ11q2?6x16x")
_SEGMENT_RSS = struct.Struct("=2qQ11q2?6x2q")
_ARRAY = struct.Struct("=10q")
_QUEUE = struct.Struct("=15q")


class SegmentInfo(NamedTuple):
    """A segment as `ipcs -m` shows it: the fields of SegmentStat, and what was asked for beside."""

    id: int
    key: int  # 0: private, or marked for removal
    size: int  # bytes, as given to shmget(2)
    mode: int  # the nine permission bits
    uid: int  # the owner
    gid: int
    cuid: int  # who created it
    cgid: int
    nattch: int  # attachments; one process may have several
    creator_pid: int  # a pid of another pid namespace is 0
    last_pid: int  # who attached or detached last
    attach_time: int  # seconds since the epoch; 0: never
    detach_time: int
    change_time: int  # of its creation, or of the last change of owner or mode
    dest: bool  # goes with its last user
    locked: bool
    rss: int | None = None  # bytes in memory; None: not asked for
    swap: int | None = None  # bytes in swap
    attached: tuple[int, ...] | None = None  # pids that have it attached; None: not asked for
    unseen: int | None = None  # processes that could not be looked at: they may have it as well


class SemaphoreArray(NamedTuple):
    """An array of semaphores as `ipcs -s` shows it."""

    id: int
    key: int  # 0: private
    mode: int  # the nine permission bits
    uid: int
    gid: int
    cuid: int
    cgid: int
    nsems: int
    operation_time: int  # of the last semop(2), seconds since the epoch; 0: never
    change_time: int


class Semaphore(NamedTuple):
    """One semaphore of an array, semctl(2)."""

    value: int
    waiting_increase: int  # processes that wait for it to grow
    waiting_zero: int  # processes that wait for it to be 0
    last_pid: int  # of the last operation


class MessageQueue(NamedTuple):
    """A message queue as `ipcs -q` shows it."""

    id: int
    key: int  # 0: private
    mode: int  # the nine permission bits
    uid: int
    gid: int
    cuid: int
    cgid: int
    used_bytes: int
    messages: int
    limit_bytes: int
    send_pid: int  # of the last msgsnd(2); a pid of another pid namespace is 0
    receive_pid: int
    send_time: int  # seconds since the epoch; 0: never
    receive_time: int
    change_time: int


class Usage(NamedTuple):
    """What is in use, as `ipcs -u` shows it."""

    segments: int
    shm_pages: int  # of the sizes of all segments; shmall bounds them
    shm_resident_pages: int
    shm_swapped_pages: int
    shm_swap_attempts: int  # 0 since Linux 2.4
    shm_swap_successes: int
    semaphore_arrays: int
    semaphores: int
    queues: int
    messages: int  # in all queues
    message_bytes: int


class Limits(NamedTuple):
    """The limits of this IPC namespace, as `ipcs -l` shows them (proc_sys_kernel(5))."""

    shmmax: int  # bytes a segment
    shmmin: int
    shmall: int  # pages of all segments together
    shmmni: int  # segments
    semmni: int  # arrays
    semmsl: int  # semaphores an array
    semmns: int  # semaphores in all
    semopm: int  # operations a semop(2)
    semvmx: int  # the largest value of a semaphore
    msgmni: int  # queues
    msgmax: int  # bytes a message
    msgmnb: int  # bytes a queue may hold, unless it was changed


def _rows(kind: Kind, read: Callable[[Any, int], int], row: str) -> Any:
    """Return the rows that a C listing fills in, as bytes."""
    found = room = int(lib.mf_sysvlist_room(_KINDS[kind]))
    while found >= room >= 0:
        room = found + _MORE
        rows = ffi.new(f"{row}[]", room)
        found = read(rows, room)
    if found < 0:
        what = f"listing the System V objects of the kind {kind}"
        errors.raise_errno(
            found,
            f"{what}: /proc is not mounted whole, or the kernel was built without CONFIG_SYSVIPC",
            errors.NotSupportedError if found in (-errno.ENOENT, -errno.ENOSYS) else None,
        )
    return ffi.buffer(rows, found * ffi.sizeof(row))


def _records(kind: Any, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return list(map(tuple.__new__, repeat(kind), rows))


def segments(rss: bool = False) -> list[SegmentInfo]:
    """List all segments by index; *rss*: with what is in memory and in swap of each."""
    read = lib.mf_sysvtable_segments if rss else lib.mf_sysvlist_segments
    layout = _SEGMENT_RSS if rss else _SEGMENT
    unasked = (None,) * (2 if rss else 4)
    rows = layout.iter_unpack(_rows("shm", read, "struct mf_sysvlist_segment"))
    return _records(SegmentInfo, map(add, rows, repeat(unasked)))


def semaphores() -> list[SemaphoreArray]:
    """
    List the arrays of semaphores of this IPC namespace.

    Anyone may ask, and sees all. One system call an array and one more; the GIL is let go of.
    Before Linux 4.17 only those that the user may read are seen.

    Raises:
        NotSupportedError: A kernel without CONFIG_SYSVIPC.

    Source: semctl(2), SEM_STAT_ANY.
    """
    raw = _rows("sem", lib.mf_sysvlist_arrays, "struct mf_sysvlist_array")
    return _records(SemaphoreArray, _ARRAY.iter_unpack(raw))


def semaphore_values(id: int, nsems: int) -> list[Semaphore]:
    """
    Return each semaphore of an array.

    Args:
        id: Of the array.

        nsems: How many it has, as ``semaphores()`` says.

    For those who may read it (its mode). Four system calls a semaphore; they may change
    between two. Raises NotFoundError, AccessError. Source: semctl(2), GETVAL and its like.
    """
    raw = ffi.new("struct mf_sysvlist_semaphore *")
    values = []
    for number in range(nsems):
        status = lib.mf_sysvlist_semaphore(id, number, raw)
        if status in (-errno.EINVAL, -errno.EIDRM):
            errors.raise_errno(-errno.EIDRM, f"semaphore {number} of array {id}: it is gone")
        errors.check(status, f"semaphore {number} of array {id}: its mode must let you read it")
        values.append(
            Semaphore(raw.value, raw.waiting_increase, raw.waiting_zero, raw.last_pid),
        )
    return values


def message_queues() -> list[MessageQueue]:
    """
    List the message queues of this IPC namespace.

    As ``semaphores()``, in all it says. Source: msgctl(2), MSG_STAT_ANY.
    """
    raw = _rows("msg", lib.mf_sysvlist_queues, "struct mf_sysvlist_queue")
    return _records(MessageQueue, _QUEUE.iter_unpack(raw))


def _filled(kind: Any, struct_name: str, fill: Callable[[Any], int], what: str) -> Any:
    raw = ffi.new(f"{struct_name} *")
    errors.check(fill(raw), f"reading {what} of System V IPC")
    return kind(*(getattr(raw, name) for name in kind._fields))


def usage() -> Usage:
    """
    Return what all System V objects of this IPC namespace use, as `ipcs -u`.

    Anyone may ask. Three system calls; the kernel adds up the pages of every
    segment. Sizes of segments are counted whole, also where no page was touched.
    Source: SHM_INFO, SEM_INFO, MSG_INFO.
    """
    result: Usage = _filled(Usage, "struct mf_sysvlist_usage", lib.mf_sysvlist_usage, "the usage")
    return result


def limits() -> Limits:
    """
    Return the limits of this IPC namespace, as `ipcs -l`.

    Anyone may ask. Three system calls. shmmax is in bytes and shmall in pages, as the kernel
    has them. Source: IPC_INFO of shmctl(2), semctl(2), msgctl(2).
    """
    raw: Limits = _filled(Limits, "struct mf_sysvlist_limits", lib.mf_sysvlist_limits, "the limits")
    return raw


def remove_seen(kind: Kind, seen: Any, only_unused: bool) -> int:
    """
    Remove an object if it still is what it was when *seen*; return 0: gone, 1: marked, or -errno.

    -ESTALE: the id names another object now, or owner or mode were changed; -EBUSY: somebody has
    attached it meanwhile, and *only_unused* forbids that. Three system calls.
    """
    raw = ffi.new(
        "struct mf_sysvlist_seen *",
        (seen.id, seen.key, seen.uid, seen.change_time, only_unused),
    )
    return int(lib.mf_sysvlist_remove(_KINDS[kind], raw))


def is_orphan(segment: SegmentInfo) -> bool:
    """
    Return whether nobody has it attached and its creator is provably dead.

    A creator of another pid namespace (0), or a pid that some process has, is no proof: that
    segment is not an orphan. No more than three system calls.
    """
    return bool(lib.mf_sysvlist_abandoned(segment.nattch, segment.creator_pid))
