"""csrc/sysv.c in Python: System V segments, from shmget(2) to shmctl(2)."""

from __future__ import annotations

import errno
import os
import time
from operator import index

from memfast import _fast, errors, sysv_errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn


__all__ = ["SegmentStat", "ftok", "sweep"]

_KEY_MAX = 0xFFFFFFFF  # key_t has 32 bits; ipcs(1) shows them unsigned
_SIZE_MAX = (1 << 62) - 1
_HUGE_BYTES = {"2M": 1 << 21, "1G": 1 << 30}
_JOIN_TRIES = 1000  # each lost try is a segment that somebody else removed meanwhile
_SWEEP_SHARE = 20  # at most one part in so many of the time goes into sweeping
# By enum mf_sysv_step.
_CALLS = ("shmget(2)", "shmat(2)", "shmctl(2) with IPC_RMID", "", "taking its pages, madvise(2),")

_sweep_due = 0.0


class SegmentStat(NamedTuple):
    """What the kernel says of a segment (shmctl(2), IPC_STAT)."""

    id: int
    key: int  # 0: private, or marked for removal
    size: int  # bytes, as given to shmget(2): more than Segment.size if a tail of ours is behind it
    mode: int  # the nine permission bits
    uid: int
    gid: int
    cuid: int
    cgid: int
    nattch: int
    creator_pid: int  # a pid of another pid namespace is 0
    last_pid: int
    attach_time: int  # seconds since the epoch; 0: never
    detach_time: int
    change_time: int
    dest: bool  # goes with its last user
    locked: bool


class Attachment:
    """A segment as it was attached by one call: pages, and what was true at that moment."""

    __slots__ = ("_raw", "creator_pid", "id", "key", "nonce", "pages", "readonly", "size")

    def __init__(self, raw: Any, readonly: bool) -> None:
        self.pages = _fast.Pages(int(ffi.cast("uintptr_t", raw.address)), raw.size, readonly, 0)
        self.readonly = readonly
        self.id: int = raw.id
        self.key: int = raw.key
        self.size: int = raw.size
        self.nonce: int = raw.nonce
        self.creator_pid: int = raw.creator_pid
        self._raw = raw

    def claim_init(self, wanted: bool) -> int | None:
        """
        Ask whose turn it is to initialise; only where there is a nonce.

        Returns the word for ``end_init()`` if it is ours, 0 if it is nobody's; None if a process
        that lives is at it.
        """
        claim = ffi.new("uint64_t *")
        turn = lib.mf_sysv_init_claim(self._raw, wanted, claim)
        if turn == -errno.EBUSY:
            return None
        if turn < 0:
            sysv_errors.raise_use(turn, f"init of segment {self.id}: reading /proc/self failed")
        return int(claim[0]) if turn else 0

    def end_init(self, claim: int, done: bool) -> None:
        """Say that init is done, or give the turn back."""
        lib.mf_sysv_init_end(self._raw, claim, done)


def _checked_key(key: int) -> int:
    key = index(key)
    if key == 0:
        raise ValueError("key 0 is IPC_PRIVATE: pass key=None for a segment without a key")
    if not 0 < key <= _KEY_MAX:
        raise ValueError(f"key {key}: keys go from 1 to {_KEY_MAX} (2**32 - 1)")
    return key


def _huge_bytes(hugepages: str | int | None) -> int:
    if hugepages is None:
        return 0
    if isinstance(hugepages, str):
        if hugepages not in _HUGE_BYTES:
            raise ValueError(f"hugepages={hugepages!r}: '2M', '1G' or a number of bytes")
        return _HUGE_BYTES[hugepages]
    size = index(hugepages)
    if size <= os.sysconf("SC_PAGESIZE") or size & (size - 1) or size > _SIZE_MAX:
        raise ValueError(f"hugepages={size}: a power of two above the size of a page")
    return size


def _request(size: int, key: int | None, mode: int, flags: int, hugepages: str | int | None) -> Any:
    size, mode = index(size), index(mode)
    if not 0 < size <= _SIZE_MAX:
        raise ValueError(f"a segment of {size} bytes: the size goes from 1 to {_SIZE_MAX}")
    return ffi.new(
        "struct mf_sysv_request *",
        {
            "key": 0 if key is None else _checked_key(key),
            "size": size,
            "huge_bytes": _huge_bytes(hugepages),
            "mode": _checked_mode(mode),
            "flags": flags,
        },
    )


def _checked_mode(mode: int) -> int:
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode {mode:#o}: permission bits go from 0 to 0o777")
    return mode


def _fail_create(status: int, request: Any, raw: Any) -> NoReturn:
    where = f"with key {request.key:#x}" if request.key else "without key"
    limits = ffi.new("struct mf_sysv_limits *")
    known = lib.mf_sysv_limits(limits) == 0
    sysv_errors.raise_create(
        status,
        f"create of a segment of {request.size} bytes {where}",
        None if raw.step == lib.MF_SYSV_ROOM else _CALLS[raw.step],
        request,
        raw,
        limits if known else None,
    )


def _create(request: Any, raw: Any) -> int:
    global _sweep_due
    begin = time.monotonic()
    if begin >= _sweep_due:
        sweep()
        end = time.monotonic()
        _sweep_due = end + _SWEEP_SHARE * (end - begin)
    status = lib.mf_sysv_create(request, raw)
    if status == -errno.ENOSPC and raw.step == lib.MF_SYSV_GET and sweep() > 0:
        status = lib.mf_sysv_create(request, raw)
    return int(status)


def create_segment(
    size: int,
    key: int | None,
    mode: int,
    readonly: bool,
    hugepages: str | int | None,
    noreserve: bool,
) -> Attachment:
    """Create a segment, anonymous or with *key*, and attach it: see ``Segment.create()``."""
    flags = lib.MF_SYSV_READONLY * readonly | lib.MF_SYSV_NORESERVE * noreserve
    request = _request(size, key, mode, flags, hugepages)
    raw = ffi.new("struct mf_sysv_segment *")
    status = _create(request, raw)
    if status != 0:
        _fail_create(status, request, raw)
    return Attachment(raw, readonly)


def attach_segment(id: int | None, key: int | None, readonly: bool) -> Attachment:
    """Attach an existing segment: see ``Segment.open()``."""
    if (id is None) == (key is None):
        raise ValueError("open a segment by id=... or by key=..., one of the two")
    raw = ffi.new("struct mf_sysv_segment *")
    if key is not None:
        key, number = _checked_key(key), 0
        what = f"key {key:#x}"
    else:
        key, number = 0, index(id)  # type: ignore[arg-type]
        what = f"segment {number}"
        if not 0 <= number < 1 << 31:
            raise ValueError(f"{what}: ids go from 0 to 2**31 - 1")
    status = lib.mf_sysv_open(key, number, readonly, raw)
    if status != 0:
        sysv_errors.raise_open(status, what, readonly)
    return Attachment(raw, readonly)


def attach_life(id: int, nonce: int) -> Attachment | None:
    """Attach, for reading, the life of an id that has this nonce; None: it is gone, provably."""
    try:
        attachment = attach_segment(id, None, True)
    except errors.NotFoundError:
        return None
    return attachment if attachment.nonce == nonce else None


def join_segment(key: int, size: int, mode: int) -> tuple[Attachment, bool]:
    """Attach the segment that has *key*, or create it; the second result says that it was there."""
    request = _request(size, _checked_key(key), mode, lib.MF_SYSV_TAIL, None)
    raw = ffi.new("struct mf_sysv_segment *")
    joined = False
    for _ in range(_JOIN_TRIES):
        status = _create(request, raw)
        joined = status == -errno.EEXIST
        if not joined:
            break
        status = lib.mf_sysv_join(request, raw)
        if status not in (-errno.ENOENT, -errno.EIDRM, -errno.EINVAL):
            break
    if status != 0 and joined and raw.step <= lib.MF_SYSV_ATTACH:
        sysv_errors.raise_open(status, f"key {request.key:#x}", False)
    if status != 0:
        _fail_create(status, request, raw)
    return Attachment(raw, False), joined


def stat_segment(id: int) -> SegmentStat:
    """Return what the kernel says of a segment. One system call."""
    raw = ffi.new("struct mf_sysv_stat *")
    _use(lib.mf_sysv_stat(id, raw), f"stat of segment {id}")
    values = {name: getattr(raw, name) for name in SegmentStat._fields}
    return SegmentStat(**values | {"dest": bool(raw.dest), "locked": bool(raw.locked)})


def change_segment(id: int, mode: int = -1, uid: int = -1, gid: int = -1) -> None:
    """Change mode, owner or group; -1 keeps what is. Two system calls (IPC_STAT, IPC_SET)."""
    mode, uid, gid = index(mode), index(uid), index(gid)
    if mode != -1:
        _checked_mode(mode)
    for name, value in ("uid", uid), ("gid", gid):
        if not -1 <= value < _KEY_MAX:
            raise ValueError(f"{name} {value}: from 0 to 2**32 - 2, or -1 to keep it")
    _use(lib.mf_sysv_set(id, mode, uid, gid), f"change of owner or mode of segment {id}")


def lock_segment(id: int, size: int, locked: bool) -> None:
    """Keep the pages out of swap, or no longer (SHM_LOCK, SHM_UNLOCK). One system call."""
    status = lib.mf_sysv_lock(id, locked)
    if status != 0:
        sysv_errors.raise_mlock(status, f"{'mlock' if locked else 'munlock'} of segment {id}", size)


def remove_segment(id: int) -> Literal["removed", "marked"]:
    """Remove a segment: at once, or (marked) with its last user. Two system calls."""
    return "marked" if _use(lib.mf_sysv_remove(id), f"remove of segment {id}") else "removed"


def _use(status: int, tried: str) -> int:
    if status < 0:
        sysv_errors.raise_use(status, tried)
    return status


def sweep() -> int:
    """
    Remove this user's segments that a SIGKILL in the midst of their creation left; return how many.

    Such a one is anonymous, without a page and without a user, bears memfast's
    mark, and its creator is provably dead. ``Segment.create()`` does this by
    itself. Any thread may call it. One system call for each segment of the
    machine (shmctl(2), SHM_STAT).
    """
    return int(lib.mf_sysv_sweep())


def ftok(path: str | os.PathLike[str], proj_id: int) -> int:
    """
    Return the key that ftok(3) makes of a file that exists and a number from 1 to 255.

    It is unsigned, as ipcs(1) shows it: from *proj_id* 128 on ftok(3) returns
    it less 2**32. Two files may well have the same key: 16 bits of the inode,
    8 of the device. One system call. Raises FileNotFoundError.
    """
    project = index(proj_id)
    if not 1 <= project <= 255:
        raise ValueError(f"proj_id {project}: ftok(3) uses its low 8 bits, and not all of them 0")
    status = os.stat(path)
    return project << 24 | (status.st_dev & 0xFF) << 16 | status.st_ino & 0xFFFF
