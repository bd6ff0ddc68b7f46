"""The tables of ``memfast ipcs``, to the byte those of ipcs(1)."""

from __future__ import annotations

import functools
import grp
import pwd
import time

from memfast import sysv
from memfast.cli.swaps import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_PEOPLE = "{:<10} {:<10} {:<10} {:<10} {:<10} {:<10}\n"
_TIMES = "{:<10} {:<10} {:<20} {:<20} {:<20}\n"
_PEOPLE_TITLES = ("perms", "cuid", "cgid", "uid", "gid")


# ---- cells ----


@functools.cache
def user(uid: int) -> str:
    """Return the name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.cache
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _owner(one: Any) -> str:
    name = user(one.uid)
    return name if name == str(one.uid) else name[:10]


def when(seconds: int) -> str:
    """Return a time as ctime(3) has it."""
    return time.ctime(seconds) if seconds else "Not set"


def _short(seconds: int) -> str:
    return when(seconds)[4:20] if seconds else "Not set"


def _size(options: argparse.Namespace, size: int, width: int) -> str:
    if options.unit != "human":
        return f"{size:<{width}}"
    return f"{human(size):>6}" + " " * (width - 6)


# ---- tables ----


def table(options: argparse.Namespace, kind: str, listed: Sequence[Any]) -> str:
    """Return the table of a kind in the view that was asked for; semaphores have none of pids."""
    if (kind, options.view) not in _VIEWS:
        return ""
    head, heads, row = _VIEWS[kind, options.view]
    if options.unit == "human":
        heads = heads.replace("used-bytes", "size      ").replace("bytes", "size ")
    rows = [row(options, one) for one in listed]
    return f"------ {head} --------\n{heads}{''.join(rows)}"


def _people_row(_options: argparse.Namespace, one: Any) -> str:
    names = (user(one.cuid), _group(one.cgid), user(one.uid), _group(one.gid))
    return _PEOPLE.format(one.id, f"{one.mode:o}", *names)


def _segment_row(options: argparse.Namespace, one: sysv.SegmentInfo) -> str:
    return (
        f"0x{one.key:08x} {one.id:<10} {_owner(one):<10} {one.mode:<10o}"
        f" {_size(options, one.size, 10)} {one.nattch:<10}"
        f" {'dest' if one.dest else ' ':<6} {'locked' if one.locked else ' ':<6}\n"
    )


def _segment_times(_options: argparse.Namespace, one: sysv.SegmentInfo) -> str:
    times = map(_short, (one.attach_time, one.detach_time, one.change_time))
    return _TIMES.format(one.id, _owner(one), *times)


def _segment_pids(_options: argparse.Namespace, one: sysv.SegmentInfo) -> str:
    return f"{one.id:<10} {_owner(one):<10} {one.creator_pid:<10} {one.last_pid:<10}\n"


def _array_row(_options: argparse.Namespace, one: sysv.SemaphoreArray) -> str:
    return f"0x{one.key:08x} {one.id:<10} {_owner(one):<10} {one.mode:<10o} {one.nsems:<10}\n"


def _array_times(_options: argparse.Namespace, one: sysv.SemaphoreArray) -> str:
    times = f"{when(one.operation_time):<26} {when(one.change_time):<26}"
    return f"{one.id:<8} {_owner(one):<10}  {times}\n"


def _queue_row(options: argparse.Namespace, one: sysv.MessageQueue) -> str:
    return (
        f"0x{one.key:08x} {one.id:<10} {_owner(one):<10} {one.mode:<10o}"
        f" {_size(options, one.used_bytes, 12)} {one.messages:<12}\n"
    )


def _queue_times(_options: argparse.Namespace, one: sysv.MessageQueue) -> str:
    sent, received, changed = map(_short, (one.send_time, one.receive_time, one.change_time))
    return f"{one.id:<8} {_owner(one):<10} {sent:<20} {received:<20} {changed:<20}\n"


def _queue_pids(_options: argparse.Namespace, one: sysv.MessageQueue) -> str:
    return f"{one.id:<8} {_owner(one):<10}  {one.send_pid:>5}     {one.receive_pid:>5}\n"


# (kind, view) -> title, titles of the columns, a row.
_VIEWS: dict[tuple[str, str | None], tuple[str, str, Any]] = {
    ("msg", None): (
        "Message Queues",
        "key        msqid      owner      perms      used-bytes   messages    \n",
        _queue_row,
    ),
    ("shm", None): (
        "Shared Memory Segments",
        "key        shmid      owner      perms      bytes      nattch     status      \n",
        _segment_row,
    ),
    ("sem", None): (
        "Semaphore Arrays",
        "key        semid      owner      perms      nsems     \n",
        _array_row,
    ),
    ("msg", "time"): (
        "Message Queues Send/Recv/Change Times",
        f"{'msqid':<8} {'owner':<10} {'send':<20} {'recv':<20} {'change':<20}\n",
        _queue_times,
    ),
    ("shm", "time"): (
        "Shared Memory Attach/Detach/Change Times",
        _TIMES.format("shmid", "owner", "attached", "detached", "changed"),
        _segment_times,
    ),
    ("sem", "time"): (
        "Semaphore Operation/Change Times",
        f"{'semid':<8} {'owner':<10} {'last-op':<26} {'last-changed':<26}\n",
        _array_times,
    ),
    ("msg", "pid"): (
        "Message Queues PIDs",
        f"{'msqid':<10} {'owner':<10} {'lspid':<10} {'lrpid':<10}\n",
        _queue_pids,
    ),
    ("shm", "pid"): (
        "Shared Memory Creator/Last-op PIDs",
        f"{'shmid':<10} {'owner':<10} {'cpid':<10} {'lpid':<10}\n",
        _segment_pids,
    ),
    ("msg", "creator"): (
        "Message Queues Creators/Owners",
        _PEOPLE.format("msqid", *_PEOPLE_TITLES),
        _people_row,
    ),
    ("shm", "creator"): (
        "Shared Memory Segment Creators/Owners",
        _PEOPLE.format("shmid", *_PEOPLE_TITLES),
        _people_row,
    ),
    ("sem", "creator"): (
        "Semaphore Arrays Creators/Owners",
        _PEOPLE.format("semid", *_PEOPLE_TITLES),
        _people_row,
    ),
}
