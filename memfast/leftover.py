"""csrc/leftover.c in Python: memfast's System V segments as an onlooker sees them."""

from __future__ import annotations

from memfast._core import ffi, lib
from memfast.records import NamedTuple

__all__ = ["Marked", "Usage", "marked", "remove"]

_LIVES = {lib.MF_LIFE_DEAD: "dead", lib.MF_LIFE_ALIVE: "alive", lib.MF_LIFE_UNKNOWN: "unknown"}


class Marked(NamedTuple):
    """A segment that bears memfast's mark."""

    id: int
    state: str  # "alive", "dead" (a kill in the midst of its creation left it), "unknown"
    key: int  # 0: none
    size: int  # bytes, as the kernel has it
    nattch: int
    uid: int
    creator_pid: int  # 0: of another pid namespace
    change_time: int  # seconds after the epoch: made, or given another owner or mode


class Usage(NamedTuple):
    """All System V segments of this IPC namespace, memfast's or not."""

    segments: int
    pages: int  # as they were asked for, present or not: what shmall counts


def marked() -> tuple[list[Marked], Usage]:
    """
    Return every segment with our mark, whoever owns it, and what all segments take together.

    One system call for each segment of the machine; for one that is empty, a look into
    /proc/sysvipc/shm.
    """
    index, found = ffi.new("int *"), ffi.new("struct mf_leftover *")
    usage = ffi.new("struct mf_leftover_usage *")
    rows = []
    while lib.mf_leftover_next(index, found, usage):
        rows.append(
            Marked(
                found.id,
                _LIVES[int(found.life)],
                found.key,
                found.size,
                found.nattch,
                found.uid,
                found.creator_pid,
                found.change_time_s,
            )
        )
    return rows, Usage(usage.segments, usage.pages)


def remove(id: int) -> int:
    """Remove what a kill left, if it still is that: 1 removed, 0 left alone, or -errno."""
    return int(lib.mf_leftover_remove(id))
