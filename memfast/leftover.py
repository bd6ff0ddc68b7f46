"""csrc/leftover.c in Python: memfast's System V segments as an onlooker sees them."""

from __future__ import annotations

from memfast._core import ffi, lib
from memfast.records import NamedTuple

__all__ = ["Marked", "marked", "remove"]

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


def marked() -> list[Marked]:
    """
    Return every segment with our mark, whoever owns it.

    One system call for each segment of the machine; for one that is empty, a look into
    /proc/sysvipc/shm.
    """
    index, found = ffi.new("int *"), ffi.new("struct mf_leftover *")
    rows = []
    while lib.mf_leftover_next(index, found):
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
    return rows


def remove(id: int) -> int:
    """Remove what a kill left, if it still is that: 1 removed, 0 left alone, or -errno."""
    return int(lib.mf_leftover_remove(id))
