"""csrc/name.c and csrc/record.c in Python: names in /dev/shm/memfast-<euid>/."""

from __future__ import annotations

import errno
import os
import stat

from memfast import errors, name_errors
from memfast._core import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = [
    "attach_map",
    "check",
    "clear_map",
    "directory",
    "find_segment",
    "forget_segment",
    "make_map",
    "publish_map",
    "publish_segment",
    "release_map",
    "twin_map",
    "unlink_map",
]

_ROOT = name_errors.ROOT
_LENGTH_MAX = 100
_ALLOWED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_REPLACE_TRIES = 100  # each lost try is a name that somebody else published or removed meanwhile


def directory() -> str:
    """Return where this user's names are."""
    return f"{_ROOT}/memfast-{os.geteuid()}"


def check(name: str) -> None:
    """Raise ValueError (TypeError if it is no str) unless *name* is safe as part of a path."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    if not 0 < len(name) <= _LENGTH_MAX or name[0] == "." or not _ALLOWED.issuperset(name):
        raise ValueError(
            f"name {name!r}: it must have 1 to {_LENGTH_MAX} letters, digits, dots, hyphens and"
            " underscores, and not begin with a dot"
        )


def _fail(status: int, tried: str) -> NoReturn:
    name_errors.raise_name(status, tried, directory())


def _file(name: str, kind: str) -> bytes:
    return f"{name}.{kind}".encode()


# ---- maps: files whose users live on them by a lock ----


def clear_map(name: str) -> None:
    """Make way for a new map: remove a name left by the dead; ExistsError if it is in use."""
    status = lib.mf_name_clear(_file(name, "map"))
    if status != 0:
        _fail(status, f"creating map {name!r}")


def make_map() -> int:
    """Return the descriptor of a new file without a name, in the directory of names."""
    fd = ffi.new("int *")
    status = lib.mf_name_make(fd)
    if status != 0:
        _fail(status, f"making a file in {directory()}")
    return int(fd[0])


def twin_map(fd: int, readonly: bool) -> int:
    """Open the same file anew: a mapping of the twin does not keep the lock that is on *fd*."""
    twin = ffi.new("int *")
    status = lib.mf_name_twin(fd, readonly, twin)
    if status != 0:
        _fail(status, f"opening file descriptor {fd} anew through /proc")
    return int(twin[0])


def publish_map(fd: int, name: str, mode: int, persist: bool) -> None:
    """Give a finished file its mode and its name, in one step, and live on it."""
    mode |= stat.S_ISVTX if persist else 0
    status = lib.mf_name_publish(fd, _file(name, "map"), mode, True)
    if status != 0:
        _fail(status, f"publishing map {name!r}")


def attach_map(name: str, readonly: bool) -> int:
    """Return the descriptor of a living map, and live on it; a dead one is removed."""
    fd = ffi.new("int *")
    status = lib.mf_name_attach(_file(name, "map"), readonly, fd)
    if status != 0:
        _fail(status, f"opening map {name!r}")
    return int(fd[0])


def release_map(fd: int, name: str) -> None:
    """Close the descriptor, and remove the name if nobody else lives on it; never raises."""
    lib.mf_name_release(fd, _file(name, "map"))


def unlink_map(fd: int, name: str) -> None:
    """Remove the name if it still stands for this file."""
    status = lib.mf_name_unlink(fd, _file(name, "map"))
    if status == -errno.ESTALE:
        errors.raise_errno(status, f"unlinking map {name!r}: the name stands for a newer map")
    if status != 0:
        _fail(status, f"unlinking map {name!r}")


# ---- segments: records, whose segment says itself whether it lives ----


def _read(tried: str, file: bytes) -> tuple[int, int]:
    segment_id, nonce, version = ffi.new("int32_t *"), ffi.new("uint64_t *"), ffi.new("uint32_t *")
    status = lib.mf_record_read(file, segment_id, nonce, version)
    if status == -errno.EPROTONOSUPPORT:
        raise errors.LayoutError(
            f"{tried}: its record has layout version {version[0]}, this memfast has"
            f" {lib.MF_LAYOUT_VERSION}; use the same memfast on both sides"
        )
    if status != 0:
        _fail(status, tried)
    return segment_id[0], nonce[0]


def publish_segment(
    name: str, kind: str, segment_id: int, nonce: int, alive: Callable[[int, int], bool]
) -> None:
    """
    Publish a segment under a name, in one step: the name is absent, or whole.

    Costs about fifteen system calls; the name is given under a lock on the
    user's directory of names.

    Args:
        kind: What the segment holds, such as "channel": each kind has names of its own.

        alive: Tells whether a segment (id, nonce) still exists. A name whose
            segment does not is replaced.

    Raises:
        ExistsError: The name is taken: by a living segment, by one of another
            IPC namespace, whose life cannot be told, or by what is no record of ours.

        AccessError: What has the name, or the directory, is not this user's alone.

        NoSpaceError: /dev/shm is full.
    """
    check(name)
    tried, file = f"publishing {kind} {name!r}", _file(name, kind)
    for _ in range(_REPLACE_TRIES):
        status = lib.mf_record_publish(file, segment_id, nonce)
        if status == 0:
            return
        if status != -errno.EEXIST:
            _fail(status, tried)
        try:
            old = _read(tried, file)
        except errors.StaleHandleError as error:
            raise errors.ExistsError(
                errno.EEXIST, f"{error.strerror}; choose another name"
            ) from None
        except errors.NotFoundError:
            continue
        except errors.LayoutError as error:
            raise errors.ExistsError(errno.EEXIST, f"the name is taken; {error}") from None
        if alive(*old):
            _fail(status, tried)
        lib.mf_record_remove(file, *old)
    raise errors.ExistsError(errno.EEXIST, f"{tried}: others keep taking the name; try again")


def find_segment(name: str, kind: str) -> tuple[int, int]:
    """
    Return (segment id, nonce) of what was published under a name.

    Whether that segment still exists is for the caller to see. Costs about nine system calls.

    Raises:
        NotFoundError: No such name. StaleHandleError: it is another IPC namespace's.

        LayoutError: The file holds no record, or one of another version.

        AccessError: The name is a link, a directory, a FIFO or a device, or not this user's alone.
    """
    check(name)
    return _read(f"looking up {kind} {name!r}", _file(name, kind))


def forget_segment(name: str, kind: str, segment_id: int, nonce: int) -> bool:
    """Remove a name if it still stands for this life of this segment, and say so."""
    check(name)
    return bool(lib.mf_record_remove(_file(name, kind), segment_id, nonce) == 0)
