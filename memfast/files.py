"""Files as maps need them: opened, measured, carried in a pickle, given up at a clean end."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import weakref
from operator import index

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeAlias

    # Device and inode; the process and number it is open as; what carries it while spawning.
    Ticket: TypeAlias = tuple[tuple[int, int], int, int, Any]

__all__ = [
    "carries",
    "check_mode",
    "checked_size",
    "duplicate",
    "end_with_process",
    "measure",
    "open_path",
    "reopen",
    "same",
    "ticket",
]

_SIZE_MAX = (1 << 62) - 1
_MODE_ALLOWED, _MODE_NEEDED = 0o664, 0o400


def checked_size(size: int) -> int:
    """Return *size* as an int, if memory can be as large as that."""
    number = index(size)
    if not 0 < number <= _SIZE_MAX:
        raise ValueError(f"size of {number} bytes: it must be from 1 to {_SIZE_MAX}")
    return number


def check_mode(mode: int) -> None:
    """Raise ValueError for permission bits that let everybody write, or the owner not read."""
    if index(mode) & ~_MODE_ALLOWED or not mode & _MODE_NEEDED:
        raise ValueError(f"mode {mode:#o}: bits of {_MODE_ALLOWED:#o}, {_MODE_NEEDED:#o} included")


def _fail(tried: str, error: OSError) -> NoReturn:
    errors.raise_errno(-(error.errno or errno.EIO), tried)


def open_path(path: str | bytes | os.PathLike[Any], readonly: bool) -> int:
    """Open a file that the user names; a FIFO does not block, and nothing is created."""
    flags = (os.O_RDONLY if readonly else os.O_RDWR) | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(path, flags)
    except OSError as error:
        _fail(f"opening {os.fspath(path)!r} to map it", error)


def duplicate(fd: int, readonly: bool) -> int:
    """Return a descriptor of our own for what the user has open as *fd*."""
    try:
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if access == os.O_WRONLY:
            raise ValueError(
                f"file descriptor {fd} is open for writing only; mapping needs reading"
            )
        if access == os.O_RDONLY and not readonly:
            raise errors.AccessError(
                errno.EACCES, f"file descriptor {fd} is open for reading only; pass readonly=True"
            )
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    except errors.AccessError:
        raise
    except OSError as error:
        _fail(f"duplicating file descriptor {fd}", error)


def measure(what: str, fd: int, offset: int, length: int | None) -> int:
    """Return how many bytes to map from *offset*, all of them inside the file."""
    offset, length = index(offset), None if length is None else index(length)
    if offset < 0 or (length is not None and length <= 0):
        raise ValueError(f"{what}: offset {offset}, length {length}: no such part")
    status = os.fstat(fd)
    kind = stat.S_IFMT(status.st_mode)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        if length is None:
            raise ValueError(f"{what} is a device, whose size its driver does not say: give length")
        return length
    if kind != stat.S_IFREG:
        raise ValueError(f"{what} is a directory, FIFO or socket: there is nothing to map")
    if status.st_size == 0:
        raise ValueError(f"{what} is empty: there is nothing to map")
    wanted = status.st_size - offset if length is None else length
    if wanted <= 0 or offset + wanted > status.st_size:
        raise ValueError(
            f"{what} has {status.st_size} bytes, so none to map at {offset} + {max(wanted, 0)}:"
            " to touch memory beyond the end of a file is SIGBUS"
        )
    return wanted


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def ticket(fd: int) -> Ticket:
    """
    Return what ``reopen()`` needs in another process; it pickles.

    While multiprocessing starts a process with it, the descriptor itself goes
    along, whatever the parent does to its own. Any other ticket keeps nothing
    alive: it is good while this process has *fd* open.
    """
    context = sys.modules.get("multiprocessing.context")
    carried = None
    if context is not None and context.get_spawning_popen() is not None:
        from multiprocessing.reduction import DupFd

        carried = DupFd(fd)
    return _identity(fd), os.getpid(), fd, carried


def carries(found: Ticket) -> bool:
    """Whether the ticket brought the open file along."""
    return found[3] is not None


def same(found: Ticket, fd: int) -> bool:
    """Whether *fd* is the file that the ticket was made for."""
    return _identity(fd) == found[0]


def reopen(found: Ticket, readonly: bool) -> int:
    """
    Open the file of a ticket, for its new owner.

    Raises:
        StaleHandleError: The process that made it is gone, or has closed the file.

        AccessError: This user may not look into that process (ptrace(2)).
    """
    _, pid, number, carried = found
    if carried is not None:
        fd = int(carried.detach())
        os.set_inheritable(fd, False)
        return fd
    tried = f"opening what process {pid} had as descriptor {number}"
    try:
        fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY if readonly else os.O_RDWR)
    except (FileNotFoundError, ProcessLookupError):
        raise errors.StaleHandleError(
            errno.ESTALE, f"{tried}: gone; a pickle alone keeps nothing alive"
        ) from None
    except OSError as error:
        _fail(tried, error)
    if not same(found, fd):
        os.close(fd)
        raise errors.StaleHandleError(errno.ESTALE, f"{tried}: it is another file by now")
    return fd


# ---- given up at a clean end ----

_finalizers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def end_with_process(thing: object, finalizer: weakref.finalize[..., Any]) -> None:
    """
    Have *finalizer*, which is *thing*'s, run also where a child of multiprocessing ends cleanly.

    Such a child may skip atexit, and runs what multiprocessing.util has: of
    that it throws away what it inherited or unpickled, and then calls what
    register_after_fork() was given.
    """
    _finalizers[thing] = finalizer
    _hook(thing)


def _hook(thing: object) -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(thing, _finalizers[thing], exitpriority=0)
        util.register_after_fork(thing, _hook)


def _hook_all() -> None:
    for thing in list(_finalizers):
        _hook(thing)


os.register_at_fork(after_in_child=_hook_all)  # multiprocessing may have been imported since
