"""What went wrong with a mapping, in words: which limit, its value, what to do about it."""

from __future__ import annotations

import errno
import os
import resource  # not when it is needed: that may be for want of addresses or descriptors

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["raise_advice", "raise_lock", "raise_map", "raise_reserve", "raise_room"]

_HUGE_PATH = "/sys/kernel/mm/hugepages/hugepages-{}kB"


def _limit(name: str) -> int | None:
    """Return a limit of this process in bytes, or None if there is none."""
    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else soft


def raise_room(tried: str, room: int) -> NoReturn:
    """Raise because the machine or the cgroup has no more than *room* bytes for us."""
    errors.raise_errno(
        -errno.ENOMEM,
        f"{tried}: this process may take {room} bytes more (free memory of the machine, or the"
        " limit of its cgroup); ask for less, or raise memory.max",
    )


def _raise_huge(status: int, tried: str, page_bytes: int) -> NoReturn:
    folder = _HUGE_PATH.format(page_bytes >> 10)
    try:
        with open(f"{folder}/free_hugepages") as file:
            free = int(file.read())
    except OSError:
        errors.raise_errno(
            status,
            f"{tried}: this machine has no huge pages of {page_bytes} bytes (no {folder})",
            errors.NotSupportedError,
        )
    errors.raise_errno(
        status,
        f"{tried}: {free} huge pages of {page_bytes} bytes are free; as root, write a larger"
        f" number to {folder}/nr_hugepages",
        errors.LimitError,
    )


def raise_reserve(status: int, tried: str, page_bytes: int, folder: str | None) -> NoReturn:
    """
    Raise because memory could not be had.

    Args:
        page_bytes: The size of huge page that was asked for, or 0.

        folder: Where the file is, if it has or will have a name.
    """
    if page_bytes and status in (
        -errno.ENOMEM,
        -errno.ENOSPC,
        -errno.EINVAL,
        -errno.ENODEV,
        -errno.ENOENT,
    ):
        _raise_huge(status, tried, page_bytes)
    if status == -errno.EFBIG:
        errors.raise_errno(
            status,
            f"{tried}: RLIMIT_FSIZE is {_limit('RLIMIT_FSIZE')} bytes; raise it (ulimit -f)",
            errors.LimitError,
        )
    if status == -errno.ENOSPC and folder is not None:
        there = os.statvfs(folder)
        errors.raise_errno(
            status,
            f"{tried}: {folder} has {there.f_bavail * there.f_frsize} bytes free of"
            f" {there.f_blocks * there.f_frsize}; enlarge it (mount -o remount,size=...,"
            " docker run --shm-size=...) or do without a name",
        )
    raise_map(status, tried)


def raise_map(status: int, tried: str) -> NoReturn:
    """Raise for a failed mmap(2) and the like."""
    if status == -errno.ENOMEM:
        room = _limit("RLIMIT_AS")
        if room is not None:
            errors.raise_errno(
                status,
                f"{tried}: RLIMIT_AS is {room} bytes of addresses; raise it (ulimit -v)",
                errors.LimitError,
            )
        errors.raise_errno(
            status, f"{tried}: too large, or too many mappings (vm.max_map_count); ask for less"
        )
    if status == -errno.ENODEV:
        errors.raise_errno(
            status, f"{tried}: its driver or file system cannot be mapped", errors.NotSupportedError
        )
    if status in (-errno.EACCES, -errno.EPERM):
        errors.raise_errno(
            status, f"{tried}: not for writing (its descriptor or a seal); pass readonly=True"
        )
    errors.raise_errno(status, tried)


def raise_lock(status: int, tried: str) -> NoReturn:
    """Raise for a failed mlock2(2)."""
    if status in (-errno.ENOMEM, -errno.EPERM, -errno.EAGAIN):
        limit = _limit("RLIMIT_MEMLOCK")
        if limit is not None:
            errors.raise_errno(
                status,
                f"{tried}: RLIMIT_MEMLOCK lets this process lock {limit} in"
                " all; raise it (ulimit -l, LimitMEMLOCK=), or give it CAP_IPC_LOCK",
                errors.LimitError,
            )
    if status == -errno.ENOSYS:
        errors.raise_errno(status, f"{tried}: mlock2(2) exists since Linux 4.4")
    errors.raise_errno(status, tried)


def raise_advice(status: int, tried: str) -> NoReturn:
    """Raise for an advice that the kernel has, but does not take for this memory."""
    if status == -errno.EINVAL:
        raise ValueError(
            f"{tried}: this kind of mapping cannot follow it (free, wipeonfork: private anonymous"
            " memory only; collapse: 2 MiB at least; cold, pageout: not locked, no huge pages;"
            " populate_write: not read-only); see madvise(2)"
        )
    errors.raise_errno(status, tried)
