"""The limits of System V shared memory that root may set, and the file that keeps them."""

from __future__ import annotations

import errno
import os
import re
from operator import index

from memfast import errors, kerneltext
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["LimitChange", "parse_limit", "set_limit"]

_KERNEL = "/proc/sys/kernel"
_FILE = "60-memfast.conf"
_HEAD = "# Written by memfast: System V shared memory (proc_sys_kernel(5)), set at boot.\n"
_UNLIMITED = (1 << 64) - 1 - (1 << 24)  # what Linux boots with, ULONG_MAX - 2**24
_LARGEST = {"shmmax": (1 << 64) - 1, "shmall": (1 << 64) - 1, "shmmni": 1 << 24}
_UNITS = {"shmmax": "bytes", "shmall": "pages", "shmmni": "segments"}
_PREFIXES = "KMGTPE"


class LimitChange(NamedTuple):
    """What ``set_limit()`` changed, or would."""

    name: str  # "shmmax", "shmall" or "shmmni"
    unit: str  # "bytes", "pages" or "segments"
    before: int
    after: int
    path: str | None  # the file that keeps it over a reboot; None: it lasts until then
    text: str | None  # all that is in that file


def _checked_name(name: str) -> str:
    if name not in _UNITS:
        raise ValueError(f"limit {name!r}: there are {', '.join(_UNITS)}")
    return name


def parse_limit(name: str, text: str) -> int:
    """
    Read the value of a limit as people write it.

    Args:
        name: "shmmax" (bytes a segment), "shmall" (pages in all) or "shmmni" (segments).

        text: A number in the limit's own unit; for shmmax and shmall also bytes with a unit
            (K, M, G, T, P, E, powers of 1024: "8G", "512MiB"), which for shmall are rounded up
            to pages; or "unlimited".

    Raises ValueError. No system call.
    """
    _checked_name(name)
    match = re.fullmatch(rf"([0-9]+)\s*(?:([{_PREFIXES}])(?:i?B)?|(B))?", text.strip(), re.I)
    if text.strip().lower() == "unlimited" and name != "shmmni":
        return _UNLIMITED
    if match is None:
        sizes = "" if name == "shmmni" else ", a size as 512M or 8G, or unlimited"
        raise ValueError(f"{name}={text!r}: a number of {_UNITS[name]}{sizes}")
    number = int(match[1])
    if match[2] is None and match[3] is None:
        return number
    if name == "shmmni":
        raise ValueError(f"{name}={text!r}: a number of segments has no unit")
    size = number << 10 * (_PREFIXES.index(match[2].upper()) + 1) if match[2] else number
    return -(-size // os.sysconf("SC_PAGESIZE")) if name == "shmall" else size


def _fail(status: int, tried: str) -> NoReturn:
    kind: type[OSError] | None = None
    if status in (-errno.EACCES, -errno.EPERM):
        tried = f"{tried}: it takes root of the user namespace that owns this IPC namespace"
    elif status == -errno.EROFS:
        tried = f"{tried}: /proc/sys is read-only here, as in a container; set it on the host"
        kind = errors.AccessError
    elif status == -errno.EINVAL:
        tried = f"{tried}: the kernel does not take this value"
    elif status == -errno.ENOENT:
        tried = f"{tried}: /proc is not mounted whole, or the kernel has no CONFIG_SYSVIPC"
        kind = errors.NotSupportedError
    errors.raise_errno(status, tried, kind)


def _read(name: str) -> int:
    try:
        return int(kerneltext.read(f"{_KERNEL}/{name}"))
    except OSError as error:
        _fail(-(error.errno or errno.EIO), f"reading kernel.{name}")


def _write(name: str, value: int) -> None:
    tried = f"setting kernel.{name} to {value}"
    try:
        with open(f"{_KERNEL}/{name}", "wb", buffering=0) as file:
            file.write(b"%d\n" % value)
    except OSError as error:
        _fail(-(error.errno or errno.EIO), tried)
    now = _read(name)
    if now != value:
        raise OSError(errno.EINVAL, f"{tried}: the kernel made {now} of it")


def _kept_text(path: str, name: str, value: int) -> str:
    """Return what the file would say: our line for this limit, and all else that is there."""
    try:
        with open(path) as file:
            lines = file.readlines()
    except FileNotFoundError:
        lines = [_HEAD]
    except OSError as error:
        _fail_file(error, name, path)
    ours = re.compile(rf"\s*-?kernel[./]{name}\s*=")
    kept = [line if line.endswith("\n") else f"{line}\n" for line in lines if not ours.match(line)]
    return "".join([*kept, f"kernel.{name} = {value}\n"])


def _staged(path: str, text: str) -> str:
    """Write a new file beside *path*, whole and on disk; return its name."""
    folder, name = os.path.split(path)
    staged = os.path.join(folder, f".{name}.{os.urandom(4).hex()}")  # not read: sysctl.d(5)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "w") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        os.unlink(staged)
        raise
    return staged


def _publish(staged: str, path: str, change: LimitChange) -> None:
    """Tell the kernel, then give the file its name; if either fails, as if nothing had been."""
    try:
        _write(change.name, change.after)
        try:
            os.replace(staged, path)
        except OSError as error:
            _write(change.name, change.before)
            _fail_file(error, change.name, path)
    except BaseException:
        os.unlink(staged)
        raise


def _fail_file(error: OSError, name: str, path: str) -> NoReturn:
    tried = f"setting kernel.{name}: writing {path} (nothing was changed)"
    if error.errno in (errno.EACCES, errno.EPERM):
        tried = f"{tried}: it takes root"
    errors.raise_errno(-(error.errno or errno.EIO), tried)


def set_limit(
    name: str,
    value: int,
    persist: bool = False,
    *,
    directory: str | os.PathLike[str] = "/etc/sysctl.d",
    dry_run: bool = False,
) -> LimitChange:
    """
    Set a limit of System V shared memory, now and, if *persist*, at each boot.

    For root of the user namespace that owns this IPC namespace (root of the host,
    for the host's). It is written to /proc/sys/kernel and read back. All or
    nothing: the file that keeps it is complete on disk before the kernel is asked,
    and takes its name only after the kernel has agreed. What is in use already
    stays, also above a lower limit. Costs six system calls or fewer, and with
    *persist* two fsync(2).

    Args:
        name: "shmmax", in bytes: how large one segment may be; "shmall", in PAGES
            (``os.sysconf("SC_PAGESIZE")`` bytes): how large all may be together; "shmmni": how
            many there may be.

        value: In that unit; ``parse_limit()`` reads what people write.

        persist: Keep it in 60-memfast.conf, a file of memfast's own. Other lines of it stay.

        directory: Where that file is.

        dry_run: Check, and change nothing; what would be is returned.

    Raises:
        ValueError: No such limit, or no such value.

        AccessError: Not root, or /proc/sys is read-only (a container).

    Source: proc_sys_kernel(5), sysctl.d(5).
    """
    _checked_name(name)
    value = index(value)
    if not 1 <= value <= _LARGEST[name]:
        raise ValueError(f"{name}={value}: from 1 to {_LARGEST[name]} {_UNITS[name]}")
    before = _read(name)
    path = os.path.join(directory, _FILE) if persist else None
    text = None if path is None else _kept_text(path, name, value)
    change = LimitChange(name, _UNITS[name], before, value, path, text)
    if dry_run:
        return change
    if path is None or text is None:
        _write(name, value)
        return change
    try:
        staged = _staged(path, text)
    except OSError as error:
        _fail_file(error, name, path)
    _publish(staged, path, change)
    _sync_directory(os.fspath(directory))
    return change


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
