"""
From -errno to an exception, and the few classes that the kernel lacks.

Each class is also the built-in that a user already catches; ``MemfastError``
mixes in with it, so ``except memfast.MemfastError`` catches them all. Each
message says what was tried, on what, why it failed and what to do about it.
"""

from __future__ import annotations

import errno
import os
import queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "AccessError",
    "ClosedError",
    "Empty",
    "ExistsError",
    "Full",
    "LayoutError",
    "LimitError",
    "MemfastError",
    "MessageTooLarge",
    "NoSpaceError",
    "NotFoundError",
    "NotSupportedError",
    "OwnerDiedError",
    "PeerDiedError",
    "RoleTakenError",
    "StaleHandleError",
    "WaitTimeout",
]


class MemfastError(Exception):
    """What every error of memfast also is."""


class NotFoundError(MemfastError, FileNotFoundError):
    """No segment, map or name is there (ENOENT, EIDRM, EINVAL for an id)."""


class StaleHandleError(NotFoundError):
    """A handle, id or name that refers to a past life of its object."""


class ExistsError(MemfastError, FileExistsError):
    """The key or the name is taken (EEXIST)."""


class AccessError(MemfastError, PermissionError):
    """The mode, the owner or a missing capability forbids it (EACCES, EPERM)."""


class NoSpaceError(MemfastError, OSError):
    """A file system, the host or the cgroup has no room for this (ENOSPC, ENOMEM)."""


class LimitError(MemfastError, OSError):
    """A limit of the kernel or of the process is reached; the message names it and its value."""


class NotSupportedError(MemfastError, OSError):
    """This kernel or container lacks the feature (ENOSYS, EOPNOTSUPP)."""


class Full(MemfastError, queue.Full):
    """A queue stayed full."""


class Empty(MemfastError, queue.Empty):
    """A queue stayed empty."""


class WaitTimeout(MemfastError, TimeoutError):
    """A timed wait ran out."""


class ClosedError(MemfastError, EOFError, ValueError):
    """The peer closed in order and all was received, or this handle was closed."""


class LayoutError(MemfastError, ValueError):
    """Foreign, damaged or other-version bytes where an object of memfast should be."""


class MessageTooLarge(MemfastError, ValueError):
    """A message over the bound, or over the buffer that should take it."""


class _OfProcess(MemfastError):
    """An error about another process; ``pid`` says which."""

    def __init__(self, pid: int, *arguments: object) -> None:
        super().__init__(*arguments)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.pid, *self.args)


class PeerDiedError(_OfProcess, ConnectionResetError):
    """The process at the other end is gone without closing."""


class RoleTakenError(_OfProcess, OSError, ValueError):
    """A live process has this end (EBUSY)."""


class OwnerDiedError(_OfProcess, RuntimeError):
    """The holder of a lock died inside."""


_CLASSES: dict[int, type[OSError]] = {
    errno.ENOENT: NotFoundError,
    errno.EIDRM: NotFoundError,
    errno.ESTALE: StaleHandleError,
    errno.EEXIST: ExistsError,
    errno.EACCES: AccessError,
    errno.EPERM: AccessError,
    errno.ENOSPC: NoSpaceError,
    errno.ENOMEM: NoSpaceError,
    errno.EMFILE: LimitError,
    errno.ENFILE: LimitError,
    errno.ENOSYS: NotSupportedError,
    errno.EOPNOTSUPP: NotSupportedError,
    errno.ESRCH: ProcessLookupError,
}


def raise_errno(status: int, message: str, kind: type[OSError] | None = None) -> NoReturn:
    """
    Raise the exception for a C status.

    Args:
        status: A negative errno, as the C core returns it.

        message: What was tried, on what, and what to do; the kernel's words are put behind it.

        kind: The class, where the caller knows better than the number does.
    """
    code = -status
    raise (kind or _CLASSES.get(code, OSError))(code, f"{message}: {os.strerror(code)}")


def check(status: int, message: str) -> None:
    """Raise for a negative status; zero and above are fine."""
    if status < 0:
        raise_errno(status, message)
