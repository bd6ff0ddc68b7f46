"""Which process is asked about, and why it could not be: the words of procmem and procmaps."""

from __future__ import annotations

import errno
from operator import index

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["checked_pid", "raise_read"]

_PID_MAX = 1 << 22  # PID_MAX_LIMIT, proc_sys_kernel(5)


def checked_pid(pid: int | None) -> int:
    """Check a process id; 0 stands for this process in the C core."""
    if pid is None:
        return 0
    number = index(pid)
    if number < 0:
        raise ValueError(f"pid {number}: a process id is positive; None means this process")
    if not 0 < number <= _PID_MAX:
        raise ProcessLookupError(errno.ESRCH, f"no process has the id {number}")
    return number


def raise_read(status: int, what: str, pid: int | None) -> NoReturn:
    """
    Raise for a read that failed.

    Args:
        status: The negative errno.

        what: What was to be read of the process.

        pid: Of which one, as the user gave it.
    """
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
        errors.raise_errno(
            status,
            f"{tried}: /proc is not mounted, or is another pid namespace's",
            errors.NotSupportedError,
        )
    if status == -errno.EOPNOTSUPP:
        errors.raise_errno(
            status, f"{tried}: this kernel was built without CONFIG_PROC_PAGE_MONITOR"
        )
    errors.raise_errno(status, tried)
