"""
System V objects of this IPC namespace: list, measure, limit and remove them.

As ipcs(1) and ipcrm(1), for who administers what others made; to share memory
use ``memfast.Segment``. In a container, the objects are the container's own.
"""

from __future__ import annotations

import errno
import os
import pwd
from operator import index

from memfast import procmaps, sysvlist
from memfast.onexit import remove_on_exit
from memfast.records import NamedTuple
from memfast.shm import SegmentStat, ftok, sweep
from memfast.sysctl import LimitChange, parse_limit, set_limit
from memfast.sysvlist import (
    Limits,
    MessageQueue,
    SegmentInfo,
    Semaphore,
    SemaphoreArray,
    Usage,
    limits,
    message_queues,
    semaphore_values,
    semaphores,
    usage,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal

    from memfast.sysvlist import Kind

    Happened = Literal["removed", "marked", "would remove", "would mark", "failed"]

__all__ = [
    "LimitChange",
    "Limits",
    "MessageQueue",
    "Outcome",
    "SegmentInfo",
    "SegmentStat",
    "Semaphore",
    "SemaphoreArray",
    "Usage",
    "ftok",
    "limits",
    "message_queues",
    "parse_limit",
    "remove",
    "remove_on_exit",
    "segments",
    "semaphore_values",
    "semaphores",
    "set_limit",
    "sweep",
    "usage",
]

_NAMES = {"shm": "segment", "sem": "semaphore array", "msg": "message queue"}


class Outcome(NamedTuple):
    """What became of one object that ``remove()`` was to remove."""

    id: int | None  # None: no object has this key
    key: int | None  # None: no object has this id
    size: int | None  # bytes; of an array: semaphores; None: no such object
    owner: int | None  # uid
    nattch: int  # attachments that keep a marked segment alive
    outcome: Happened
    error: str  # why it failed; or ""
    errno: int  # of what failed, ENOENT: no such object; or 0


# ---- list ----


def segments(*, rss: bool = False, attached: bool = False) -> list[SegmentInfo]:
    """
    List the segments of this IPC namespace, as `ipcs -m`, in the kernel's order.

    Anyone may ask, and sees all, also what he may not read. One system call a
    segment and two more (4,000 segments: 2.5 ms), with the GIL let go of.

    Args:
        rss: With the bytes of each that are in memory and in swap. The kernel goes through
            the page tables of each: about 1.3 us more a segment.

        attached: With the pids of who has it attached: /proc/PID/maps of every process is
            read, which takes the right to trace it (ptrace(2)); ``unseen`` says how many
            could not be read. Processes of another IPC namespace are not looked at.

    Raises:
        NotSupportedError: A kernel without CONFIG_SYSVIPC; for *rss*, no /proc.

    Source: shmctl(2), SHM_STAT_ANY; for *rss* /proc/sysvipc/shm. Before Linux 4.17 always the
    latter.
    """
    found = sysvlist.segments(rss)
    if not attached:
        return found
    users, unseen = _users({segment.id: segment for segment in found})
    return [
        segment._replace(attached=tuple(users.get(segment.id, ())), unseen=unseen)
        for segment in found
    ]


def _users(by_id: dict[int, SegmentInfo]) -> tuple[dict[int, list[int]], int]:
    """Return who has which segment attached, and how many processes could not be looked at."""
    here = os.stat("/proc/self/ns/ipc").st_ino
    users: dict[int, list[int]] = {}
    unseen = 0
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            maps = procmaps.vmas(pid)
            # An id means another segment there.
            if not maps or os.stat(f"/proc/{pid}/ns/ipc").st_ino != here:
                continue
        except PermissionError:
            unseen += 1
            continue
        except (ProcessLookupError, FileNotFoundError):
            continue  # it is gone
        for id in {vma.inode for vma in maps if _maps_segment(vma, by_id)}:
            users.setdefault(id, []).append(pid)
    return users, unseen


def _maps_segment(vma: procmaps.Vma, by_id: dict[int, SegmentInfo]) -> bool:
    """Return whether a mapping is one of these segments: its inode is the id, its name the key."""
    if not vma.path.startswith("/SYSV") or vma.inode not in by_id:
        return False
    # One that is marked keeps the name of the key it had.
    key = by_id[vma.inode].key
    return key == 0 or vma.path.startswith(f"/SYSV{key:08x}")


# ---- remove ----


def remove(
    ids: Iterable[int] = (),
    keys: Iterable[int] = (),
    *,
    kind: Kind = "shm",
    owner: int | str | None = None,
    size: int | None = None,
    min_size: int | None = None,
    orphans: bool = False,
    everything: bool = False,
    dry_run: bool = False,
) -> list[Outcome]:
    """
    Remove segments, or semaphore arrays or message queues; return what became of each.

    For owner, creator or root of each. What is removed has to be chosen: by *ids* and
    *keys*, or by what it is, or both; then it must be one of those and fit all the
    rest. An id that does not fit, or is not there, is an outcome "failed". Right before
    each removal the object is looked at again, and left alone if its id, key or owner is
    no longer what was chosen. A segment that is attached is marked: it goes with its last
    user, and no key leads to it any more. One listing, and three system calls an object.

    Args:
        ids, keys: Which ones.

        kind: "shm" (segments), "sem" (semaphore arrays) or "msg" (message queues).

        owner: Only those of this user: a name or a uid.

        size: Only segments of exactly this many bytes.

        min_size: Only segments of this many bytes or more.

        orphans: Only segments that nobody has attached and whose creator is provably dead. A
            creator of another pid namespace, or whose pid some process has, is not.

        everything: Choose all there are.

        dry_run: Remove nothing; say what would be, if the kernel permits it.

    Raises:
        ValueError: Nothing was chosen, or no such user, or a number that cannot be.

    Source: shmctl(2), semctl(2), msgctl(2), IPC_RMID.
    """
    ids = list(dict.fromkeys(index(id) for id in ids))
    keys = list(dict.fromkeys(index(key) for key in keys))
    uid = _uid(owner)
    fits = _fitting(kind, uid, size, min_size, orphans)
    if not (ids or keys or everything or fits):
        raise ValueError(
            "remove() without a choice removes nothing: choose by ids, keys, owner, size,"
            " min_size or orphans (together: all must fit), or say everything=True"
        )
    if 0 in keys:
        raise ValueError("key 0 is IPC_PRIVATE, which names no object: choose by id")
    listed: list[Any] = _LISTS[kind]()
    outcomes = []
    chosen = listed
    if ids or keys:
        named = {*ids}, {*keys}
        chosen = [one for one in listed if one.id in named[0] or one.key in named[1]]
        outcomes = _missing(kind, chosen, ids, keys)
    for one in chosen:
        why = next((why for why, fit in fits if not fit(one)), "")
        if not why:
            outcomes.append(_remove_one(kind, one, orphans, dry_run))
        elif ids or keys:
            outcomes.append(_outcome(kind, one, "failed", f"left alone: {why}", errno.EINVAL))
    return outcomes


_LISTS: dict[str, Callable[[], list[Any]]] = {
    "shm": sysvlist.segments,
    "sem": sysvlist.semaphores,
    "msg": sysvlist.message_queues,
}


def _uid(owner: int | str | None) -> int | None:
    if owner is None:
        return None
    if not isinstance(owner, str):
        return index(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        if owner.isascii() and owner.isdigit():
            return int(owner)
        raise ValueError(f"owner {owner!r}: there is no such user") from None


def _fitting(
    kind: Kind, uid: int | None, size: int | None, min_size: int | None, orphans: bool
) -> list[tuple[str, Callable[[Any], bool]]]:
    """Return what each object must be, with the words for one that is not."""
    if kind not in _LISTS:
        raise ValueError(f"kind {kind!r}: 'shm', 'sem' or 'msg'")
    if kind != "shm" and (size is not None or min_size is not None or orphans):
        raise ValueError(f"size, min_size and orphans choose segments, not a {_NAMES[kind]}")
    fits: list[tuple[str, Callable[[Any], bool]]] = []
    if uid is not None:
        fits.append((f"its owner is not uid {uid}", lambda one: one.uid == uid))
    if size is not None:
        exact = index(size)
        fits.append((f"its size is not {exact} bytes", lambda one: one.size == exact))
    if min_size is not None:
        least = index(min_size)
        fits.append((f"it has fewer than {least} bytes", lambda one: one.size >= least))
    if orphans:
        fits.append(("it is in use, or its creator may live", sysvlist.is_orphan))
    return fits


def _missing(kind: Kind, chosen: list[Any], ids: list[int], keys: list[int]) -> list[Outcome]:
    """Return the outcomes of ids and keys that name nothing."""
    there_ids, there_keys = {one.id for one in chosen}, {one.key for one in chosen}
    lost: list[tuple[int | None, int | None, str]] = [
        *((id, None, f"id {id}") for id in ids if id not in there_ids),
        *((None, key, f"key {key:#x}") for key in keys if key not in there_keys),
    ]
    return [
        Outcome(id, key, None, None, 0, "failed", f"no {_NAMES[kind]} has {what}", errno.ENOENT)
        for id, key, what in lost
    ]


def _outcome(kind: Kind, one: Any, outcome: Happened, error: str = "", code: int = 0) -> Outcome:
    size = one.size if kind == "shm" else one.nsems if kind == "sem" else one.used_bytes
    nattch = one.nattch if kind == "shm" else 0
    return Outcome(one.id, one.key, size, one.uid, nattch, outcome, error, code)


def _remove_one(kind: Kind, one: Any, only_unused: bool, dry_run: bool) -> Outcome:
    if dry_run:
        stays = kind == "shm" and one.nattch > 0
        return _outcome(kind, one, "would mark" if stays else "would remove")
    status = sysvlist.remove_seen(kind, one, only_unused)
    if status >= 0:
        return _outcome(kind, one, "marked" if status else "removed")
    return _outcome(kind, one, "failed", _REASONS.get(-status) or os.strerror(-status), -status)


_REASONS = {
    **dict.fromkeys((errno.EINVAL, errno.EIDRM), "it was removed meanwhile"),
    errno.EPERM: "permission denied: only its owner, its creator or root may remove it",
    errno.ESTALE: "left alone: it was changed meanwhile, or its id names another object",
    errno.EBUSY: "left alone: it was attached meanwhile",
}
