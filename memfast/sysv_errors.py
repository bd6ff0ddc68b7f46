"""What went wrong with a System V segment, in words: which limit, its value, how to raise it."""

from __future__ import annotations

import errno
import os

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["raise_create", "raise_mlock", "raise_open", "raise_use"]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def raise_create(
    status: int, tried: str, call: str | None, request: Any, segment: Any, limits: Any
) -> NoReturn:
    """
    Raise for a failed creation.

    Args:
        status: The negative errno.

        tried: What was tried, on what.

        call: The system call that failed; None: none did, there is too little room.

        request: The ``struct mf_sysv_request``.

        segment: The ``struct mf_sysv_segment``, as far as it came.

        limits: The ``struct mf_sysv_limits`` of the moment, or None if that failed too.
    """
    if call is None:
        errors.raise_errno(
            status,
            f"{tried}: this process may take {segment.room} bytes more (free memory of the machine"
            " or limit of its cgroup); ask for less, raise memory.max, or create it with"
            " noreserve=True",
        )
    if request.huge_bytes and status in (-errno.ENOMEM, -errno.ENOSPC, -errno.EINVAL, -errno.EPERM):
        _raise_huge(status, tried, request)
    if status == -errno.EEXIST:
        errors.raise_errno(status, f"{tried}: the key is taken; open it with Segment.open(key=...)")
    if limits is not None:
        _raise_if_limit(status, tried, segment.kernel_size, limits)
    if status == -errno.EACCES:
        errors.raise_errno(
            status, f"{tried}: mode {request.mode:#o} must let its owner read and write"
        )
    if status in (-errno.ENOMEM, -errno.ENOSPC):
        tried = f"{tried}: the machine has neither memory nor address space for it"
    errors.raise_errno(status, f"{tried}: {call} failed")


def _raise_if_limit(status: int, tried: str, kernel_size: int, limits: Any) -> None:
    if status == -errno.EINVAL and kernel_size > limits.shmmax:
        value = f"{limits.shmmax} (bytes a segment), {kernel_size} with what is behind it"
        _raise_limit(status, tried, "shmmax", value, kernel_size)
    if status != -errno.ENOSPC:
        return
    if limits.used_segments >= limits.shmmni:
        value = f"{limits.shmmni} (segments), {limits.used_segments} in use"
        _raise_limit(status, tried, "shmmni", value, limits.shmmni * 2)
    pages = -(-kernel_size // os.sysconf("SC_PAGESIZE"))
    if limits.used_pages + pages > limits.shmall:
        value = f"{limits.shmall} (pages), {limits.used_pages} in use, {pages} asked"
        _raise_limit(status, tried, "shmall", value, limits.used_pages + pages)


def _raise_limit(status: int, tried: str, name: str, value: str, enough: int) -> NoReturn:
    errors.raise_errno(
        status,
        f"{tried}: kernel.{name}={value}; raise it with `sysctl -w kernel.{name}={enough}`",
        errors.LimitError,
    )


def _raise_huge(status: int, tried: str, request: Any) -> NoReturn:
    kib = request.huge_bytes >> 10
    pool = f"/sys/kernel/mm/hugepages/hugepages-{kib}kB"
    asked = -(-request.size // request.huge_bytes)
    if os.path.isdir("/sys/kernel/mm/hugepages") and not os.path.isdir(pool):
        sizes = ", ".join(sorted(os.listdir("/sys/kernel/mm/hugepages"))) or "none"
        errors.raise_errno(
            status,
            f"{tried}: this machine has no huge pages of {kib} KiB (it has {sizes})",
            errors.NotSupportedError,
        )
    if status == -errno.EPERM:
        errors.raise_errno(
            status, f"{tried}: needs CAP_IPC_LOCK or a group in vm.hugetlb_shm_group"
        )
    default = f"Hugepagesize: {kib} kB" in " ".join(_read("/proc/meminfo").split())
    setting = "/proc/sys/vm/nr_hugepages" if default else f"{pool}/nr_hugepages"
    now, free = _read(setting), _read(f"{pool}/free_hugepages")
    enough = asked + int(now) if now.isdigit() else asked
    command = f"sysctl -w vm.nr_hugepages={enough}" if default else f"echo {enough} > {setting}"
    errors.raise_errno(
        status,
        f"{tried}: asked {asked} huge pages of {kib} KiB, {setting}={now} of which {free} are free;"
        f" raise it with `{command}`",
        errors.LimitError,
    )


def raise_open(status: int, what: str, readonly: bool) -> NoReturn:
    """Raise for a failed attach to *what*, an id or a key in words."""
    if status in (-errno.EINVAL, -errno.EIDRM, -errno.ENOENT):
        errors.raise_errno(
            -errno.ENOENT,
            f"open of {what}: there is no such segment in this IPC namespace; `ipcs -m` lists them",
        )
    if status == -errno.EACCES:
        hint = "" if readonly else " and write, or pass readonly=True if reading is enough"
        errors.raise_errno(
            status,
            f"open of {what} as uid {os.geteuid()}: its owner must let you read{hint}"
            " (`ipcs -m` shows owner and mode)",
        )
    errors.raise_errno(status, f"open of {what}: shmat(2) failed")


def raise_use(status: int, tried: str) -> NoReturn:
    """Raise for a failed shmctl(2) on an id."""
    if status in (-errno.EINVAL, -errno.EIDRM):
        errors.raise_errno(-errno.EIDRM, f"{tried}: the segment is gone")
    if status in (-errno.EPERM, -errno.EACCES):
        errors.raise_errno(
            status, f"{tried} as uid {os.geteuid()}: only its owner, creator or root"
        )
    errors.raise_errno(status, tried)


def raise_mlock(status: int, tried: str, size: int) -> NoReturn:
    """Raise for a failed SHM_LOCK: mostly RLIMIT_MEMLOCK, getrlimit(2)."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if status == -errno.ENOMEM or (status == -errno.EPERM and limit == 0):
        errors.raise_errno(
            status,
            f"{tried}: asked {size} bytes, RLIMIT_MEMLOCK={limit}; raise it with `ulimit -l` or"
            " LimitMEMLOCK=, or give the process CAP_IPC_LOCK",
            errors.LimitError,
        )
    raise_use(status, tried)
