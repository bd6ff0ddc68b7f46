"""csrc/procmem.c in Python: a process's mappings and its page faults."""

from __future__ import annotations

import errno
import os
from itertools import repeat
from operator import index
from typing import NamedTuple

from memfast import errors
from memfast._core import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Faults", "Vma", "faults", "vmas"]

_PID_MAX = 1 << 22  # PID_MAX_LIMIT, proc_sys_kernel(5)


class Vma(NamedTuple):
    """One mapping of a process, a line of /proc/PID/maps."""

    start: int  # the first address
    end: int  # the first address behind it
    perms: str  # "rw-s": read, write, execute, shared (s) or private (p)
    offset: int  # bytes into the file
    device: str  # "fd:01": major and minor of the file system's device, in hexadecimal
    inode: int  # 0: no file
    path: str  # as the kernel prints it: a newline is \012, a removed file ends in " (deleted)"


class Faults(NamedTuple):
    """How often a process touched a page that was not mapped, since it began."""

    minor: int  # answered without reading from disk
    major: int  # had to wait for the disk


def _number(pid: int | None) -> int:
    """Check a pid; 0 stands for this process in csrc/procmem.c."""
    if pid is None:
        return 0
    number = index(pid)
    if number < 0:
        raise ValueError(f"pid {number}: a process id is positive; None means this process")
    if not 0 < number <= _PID_MAX:
        raise ProcessLookupError(errno.ESRCH, f"no process has the id {number}")
    return number


def _fail(status: int, what: str, pid: int | None) -> NoReturn:
    whose = "this process" if pid is None else f"process {pid}"
    tried = f"reading the {what} of {whose}"
    if status in (-errno.EACCES, -errno.EPERM):
        errors.raise_errno(
            status,
            f"{tried}: it takes the same user and the right to trace it (ptrace(2),"
            " PTRACE_MODE_READ), or CAP_SYS_PTRACE",
        )
    if status == -errno.ESRCH:
        errors.raise_errno(status, f"{tried}: it is gone, or hidden by /proc's hidepid=")
    if status == -errno.ENOENT:
        errors.raise_errno(status, f"{tried}: /proc is not mounted", errors.NotSupportedError)
    errors.raise_errno(status, tried)


def _texts(pointer: Any, size: int) -> list[str]:
    return os.fsdecode(ffi.buffer(pointer, size)[:]).split("\n")


def vmas(pid: int | None = None) -> list[Vma]:
    """
    List the mappings of a process, by address; empty for a kernel thread or zombie.

    Whoever may trace the process may ask (ptrace(2), PTRACE_MODE_READ). Costs
    what the kernel takes to print /proc/PID/maps and about as much again. The
    list is read a page at a time: a mapping that changes meanwhile may be seen
    half old.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        AccessError: This user may not read that process.

    Source: proc_pid_maps(5).
    """
    maps = ffi.new("struct mf_procmem_maps *")
    status = lib.mf_procmem_maps(_number(pid), maps)
    if status != 0:
        _fail(status, "mappings", pid)
    try:
        count = maps.count
        if count == 0:
            return []
        numbers = ffi.unpack(maps.numbers, 4 * count)
        perms = _texts(maps.perms, maps.perms_size)
        devices = _texts(maps.devices, maps.devices_size)
        paths = _texts(maps.paths, maps.paths_size)
    finally:
        lib.mf_procmem_maps_free(maps)
    columns = zip(
        numbers[:count],
        numbers[count : 2 * count],
        perms,
        numbers[2 * count : 3 * count],
        devices,
        numbers[3 * count :],
        paths,
        strict=True,
    )
    # Vma._make without its frame of Python for each row.
    return list(map(tuple.__new__, repeat(Vma), columns))


def faults(pid: int | None = None) -> Faults:
    """
    Count the page faults of a process so far, those of all its threads.

    Anyone may ask. Costs one system call for this process, three for another.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

    Source: getrusage(2) for this process, else fields 10 and 12 of proc_pid_stat(5).
    """
    minor, major = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    status = lib.mf_procmem_faults(_number(pid), minor, major)
    if status != 0:
        _fail(status, "page faults", pid)
    return Faults(minor[0], major[0])
