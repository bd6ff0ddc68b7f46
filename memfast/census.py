"""
What memfast has in this machine's memory, whose it is, and whether they live: objects(), reap().

A composition: names (namedir), segments without one (leftover), and the ends of
channels (ring). What is dead is for those to say: the same words by which an
open replaces a name, and a creation sweeps segments.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from memfast import errors, leftover, name_errors, namedir, ring, shm
from memfast import name as _name
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from memfast.namedir import Entry

    State = Literal["alive", "dead", "unknown"]

__all__ = ["Object", "Reaped", "objects", "reap"]


class Object(NamedTuple):
    """One object of memfast, or something foreign where only those belong."""

    kind: str  # "map", "channel", ...: a name; "segment": one without a name; "foreign": not ours
    name: str | None  # what its users call it; a foreign file's name
    id: int | None  # of its System V segment; None: it has none, or it cannot be known
    key: int | None  # of its System V segment; None: no key
    size: int  # bytes, as the kernel has it
    uid: int  # its owner
    creator_pid: int | None  # who made its segment, as this pid namespace has it; None: unknown
    nattch: int | None  # how often its segment is attached; None: it has none, or it is gone
    pids: tuple[int, ...]  # who holds a channel's ends, as they know themselves; this user's only
    state: str  # "dead": provably, nobody has it; "alive"; "unknown": treated as alive
    age: float  # seconds since it got its name, or was made; or since another owner or mode
    path: str | None  # of its name's file; None: it has no name
    why: str  # what the state follows from


class Reaped(NamedTuple):
    """What became of one dead object."""

    kind: str
    name: str | None
    id: int | None
    size: int  # bytes
    uid: int
    path: str | None
    outcome: str  # "removed", "would remove"; "left alone": it changed meanwhile; "failed"
    error: str | None  # why it was left alone, or failed


class _Life(NamedTuple):
    """What is known of a named segment."""

    state: State
    why: str
    segment: shm.SegmentStat | None = None
    pids: tuple[int, ...] = ()


def _life(entry: Entry) -> _Life:
    """Ask after the segment that a record speaks of. Nobody else's is attached: it is hostile."""
    id = entry.segment_id
    try:
        segment = shm.stat_segment(id)
        if segment.uid != entry.owner:
            return _Life("unknown", f"segment {id} is uid {segment.uid}'s")
        if entry.owner != os.geteuid():
            return _Life("alive", f"there is a segment {id}", segment)
        attachment = shm.attach_life(id, entry.nonce)
    except errors.NotFoundError:
        return _Life("dead", f"segment {id} went with its last user")
    except OSError as error:
        return _Life("unknown", f"segment {id} cannot be looked at: {error.strerror}")
    if attachment is None:
        return _Life("dead", f"segment {id} is another by now")
    pids: tuple[int, ...] = ()
    if entry.kind == "channel":
        try:
            ends = ring.stats(attachment.pages)
            pids = tuple(pid for pid in (ends.sender_pid, ends.receiver_pid) if pid)
        except errors.LayoutError:
            pass
    return _Life("alive", f"segment {id} is attached", segment, pids)


def _age(now: float, since: float) -> float:
    return max(now - since, 0.0)  # the clock may have been set back


def _foreign(path: str, name: str, uid: int, size: int, age: float, why: str) -> Object:
    return Object("foreign", name, None, None, size, uid, None, None, (), "unknown", age, path, why)


def _is_name(text: str) -> bool:
    try:
        _name.check(text)
    except ValueError:
        return False
    return True


def _of_name(entry: Entry, now: float) -> Object:
    path, age = namedir.path_of(entry.owner, entry.file), _age(now, entry.changed_ns / 1e9)
    if entry.status == 0 and not _is_name(entry.name):
        why = "it is no name that memfast gives; look at it and remove it"
        return _foreign(path, entry.file, entry.uid, entry.size, age, why)
    if entry.status in (-errno.EXDEV, -errno.EPROTONOSUPPORT):
        life = _Life("unknown", name_errors.reason(entry.status))
    elif entry.status != 0:
        why = name_errors.reason(entry.status)
        return _foreign(path, entry.file, entry.uid, entry.size, age, why)
    elif entry.kind != "map":
        life = _life(entry)
    elif entry.lived_on:
        life = _Life("alive", "somebody has it")
    elif entry.persists:
        life = _Life("alive", "nobody has it; it persists until unlink()")
    else:
        life = _Life("dead", "nobody has it")
    segment = life.segment
    return Object(
        entry.kind,
        entry.name,
        None if entry.kind == "map" or entry.status != 0 else entry.segment_id,
        None,
        entry.size if segment is None else segment.size,
        entry.uid,
        None if segment is None else segment.creator_pid or None,
        None if segment is None else segment.nattch,
        life.pids,
        life.state,
        age,
        path,
        life.why,
    )


def _of_segment(row: leftover.Marked, now: float) -> Object:
    if row.nattch:
        why = "it is attached"
    elif row.key:
        why = "nobody has it; with a key it stays until somebody removes it"
    elif row.state == "dead":
        why = "its creator was killed before it had a page"
    elif row.state == "alive":
        why = "its creator lives"
    else:
        why = "without a user, and yet nothing proves its creator dead"
    return Object(
        "segment",
        None,
        row.id,
        row.key or None,
        row.size,
        row.uid,
        row.creator_pid or None,
        row.nattch,
        (),
        row.state,
        _age(now, row.change_time),
        None,
        why,
    )


def _of_directory(owner: int, status: int, now: float) -> Object | None:
    """Report a directory of names that is not as it must be; None: it is not there at all."""
    path = namedir.path_of(owner)
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    why = name_errors.reason(status)
    if status == -errno.EPERM:
        why = f"it is uid {found.st_uid}'s and not uid {owner}'s; look at it and remove it"
    elif status == -errno.EACCES and stat.S_ISDIR(found.st_mode):
        why = f"its mode {found.st_mode & 0o7777:04o} lets others in; chmod 700, if it is yours"
    age = _age(now, found.st_ctime)
    return _foreign(path, os.path.basename(path), found.st_uid, found.st_size, age, why)


def _survey() -> Iterator[tuple[Object, Entry | None]]:
    now, named = time.time(), set()
    for owner in namedir.owners():
        status, found = namedir.entries(owner)
        if status not in (0, -errno.ENOENT, -errno.ENODEV):
            bad = _of_directory(owner, status, now)
            if bad is not None:
                yield bad, None
        for entry in found:
            if entry.mode == 0:
                continue  # gone meanwhile
            one = _of_name(entry, now)
            if one.state == "alive" and one.id is not None:
                named.add(one.id)
            yield one, entry
    user = os.geteuid()
    for row in leftover.marked():
        if row.id not in named and user in (0, row.uid):
            yield _of_segment(row, now), None


def objects() -> list[Object]:
    """
    List memfast's objects of this user (root: of all users), names first: whose, and alive or dead.

    Named channels and maps, segments without a name, and what lies in a
    directory of names and does not belong there. Anyone may ask; nothing is
    changed. Segments that were made with a key are listed only if
    ``open_or_create()`` made them: others bear no mark. Costs about ten system
    calls for each name, one for each System V segment of the machine.

    Returns:
        Records. ``state`` is "dead" only where the kernel proves it: the segment is gone, the
        file's lock is free, the creator of an empty segment is no more. What another pid or
        IPC namespace would have to tell is "unknown", and counts as alive.

    Source: /dev/shm/memfast-<uid>/, shmctl(2) with SHM_STAT_ANY, fcntl(2) with F_OFD_GETLK.
    """
    return [one for one, _ in _survey()]


def reap(dry_run: bool = True) -> list[Reaped]:
    """
    Remove what this user's dead (root: everybody's) have left, and say what became of each.

    Nothing alive or unknown is touched: each is looked at anew under the same
    lock by which memfast opens and replaces names, just before it goes. Names
    are never followed, and what is not memfast's stays. By itself memfast does
    this for a name when it is next opened, for segments when one is created.

    Args:
        dry_run: Only say what would be removed.

    Returns:
        A record for each dead object; an empty list if there is none.
    """
    busy: set[int] = set()  # whose directory somebody sits on: one is waited for, not each
    return [_reap(one, entry, dry_run, busy) for one, entry in _survey() if one.state == "dead"]


def _reap(one: Object, entry: Entry | None, dry_run: bool, busy: set[int]) -> Reaped:
    outcome, error = "would remove", None
    if not dry_run:
        if entry is not None:
            status = -errno.EBUSY if entry.owner in busy else namedir.reap(entry)
            if status == -errno.EBUSY:
                busy.add(entry.owner)
        else:
            removed = leftover.remove(one.id or 0)
            status = 0 if removed == 1 else removed or -errno.EEXIST
        outcome, error = _outcome(status)
    return Reaped(one.kind, one.name, one.id, one.size, one.uid, one.path, outcome, error)


def _outcome(status: int) -> tuple[str, str | None]:
    if status == 0:
        return "removed", None
    if status in (-errno.ENOENT, -errno.EINVAL, -errno.EIDRM):
        return "left alone", "somebody else has removed it meanwhile"
    if status in (-errno.EEXIST, -errno.ESTALE):
        return "left alone", "it is in use, or another by now"
    return "failed", name_errors.reason(status)
