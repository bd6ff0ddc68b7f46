"""What went wrong with a name, or with the directory of names, in words."""

from __future__ import annotations

import errno
import os

from memfast import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["ROOT", "raise_name", "reason"]

ROOT = "/dev/shm"

# What the C files return, where an errno's own text would mislead.
_REASONS: dict[int, tuple[type[OSError], str]] = {
    errno.ENODEV: (
        errors.NotSupportedError,
        f"{ROOT} is missing or no tmpfs; mount a tmpfs there, or do without a name",
    ),
    errno.ENOTDIR: (
        errors.AccessError,
        "the directory of names is a link or no directory; look at it and remove it",
    ),
    errno.EPERM: (errors.AccessError, "it, or the directory of names, is another user's"),
    errno.EACCES: (
        errors.AccessError,
        "its mode lets others write or us not even read, or the directory of names is open to"
        " others; look at it, then chmod or remove it",
    ),
    errno.ELOOP: (errors.AccessError, "it is a symbolic link, and those are never followed"),
    errno.EMEDIUMTYPE: (
        errors.AccessError,
        "it is a directory, FIFO, socket or device; look at it and remove it",
    ),
    errno.EMLINK: (errors.AccessError, "the file has further hard links; look at it and remove it"),
    errno.ENOENT: (errors.NotFoundError, "there is no such name"),
    errno.ESTALE: (errors.StaleHandleError, "its last user is gone, and the name goes with it"),
    errno.EEXIST: (errors.ExistsError, "the name is taken and in use; open it, or unlink it first"),
    errno.EXDEV: (
        errors.StaleHandleError,
        "it was published in another IPC namespace, and its memory is there",
    ),
}


def reason(status: int) -> str:
    """Return why the C files refused what is behind a name, and what to do."""
    if status == -errno.EPROTO:
        return "it is no file of memfast; look at it and remove it"
    if status == -errno.EPROTONOSUPPORT:
        return "it was made by a memfast of another layout version; use that one"
    if status == -errno.EBUSY:
        return "another process has locked the directory of names for seconds; is it stopped?"
    known = _REASONS.get(-status)
    return known[1] if known else os.strerror(-status)


def raise_name(status: int, tried: str, directory: str) -> NoReturn:
    """Raise for a failed call of name.c or record.c."""
    if status == -errno.EPROTO:
        raise errors.LayoutError(f"{tried}: {directory} has a file there that is none of memfast")
    if status == -errno.EBUSY:
        raise errors.WaitTimeout(
            f"{tried}: another process has locked {directory} for seconds; is it stopped?"
        )
    kind, why = _REASONS.get(-status, (None, None))
    errors.raise_errno(status, f"{tried}: {why}" if why else tried, kind)
