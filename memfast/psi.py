"""Pressure stall information: how much time is lost because memory, disk or CPU is short."""

from __future__ import annotations

import errno
import os
import time

from memfast import _fast, errors
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from typing import Any, Literal, NoReturn, TypeAlias

    Kind: TypeAlias = Literal["memory", "io", "cpu", "irq"]

__all__ = ["Pressure", "PressureEvent", "Stall", "pressure"]

_FOLDER = "/proc/pressure"
_KINDS = ("memory", "io", "cpu", "irq")
_TEXT_BYTES_MAX = 4096  # two lines
_WINDOW_MIN_S, _WINDOW_MAX_S = 0.5, 10  # WINDOW_MIN_US, WINDOW_MAX_US of kernel/sched/psi.c
_WINDOW_STEP_US = 2_000_000  # what an unprivileged window is a multiple of: psi_trigger_create()


class Stall(NamedTuple):
    """How long tasks stood still, a line of the kernel's text."""

    avg10: float  # per cent of the time, mean of the last 10 s
    avg60: float  # of the last minute
    avg300: float  # of the last five minutes
    total: float  # seconds since boot, or since the cgroup began; the kernel counts microseconds


class Pressure(NamedTuple):
    """What stood still for want of one resource."""

    kind: str  # "memory", "io", "cpu" or "irq"
    some: Stall | None  # at least one task did; None: the kernel does not say it (irq)
    full: Stall | None  # all did, nothing was done; None: the kernel does not say it


class PressureEvent(NamedTuple):
    """That a trigger fired."""

    time: float  # seconds since the epoch
    pressure: Pressure  # as it was then


# ---- reading ----

_files = {kind: _fast.Procfile(f"{_FOLDER}/{kind}") for kind in _KINDS}


def _path(kind: str, cgroup: str | os.PathLike[str] | None) -> str:
    if kind not in _KINDS:
        raise ValueError(f"pressure of {kind!r}: 'memory', 'io', 'cpu' or 'irq'")
    if cgroup is None:
        return f"{_FOLDER}/{kind}"
    return os.path.join(os.fspath(cgroup), f"{kind}.pressure")


def _fail(error: OSError, tried: str, path: str) -> NoReturn:
    code = error.errno or errno.EIO
    folder, file = os.path.split(path)
    there = os.path.isdir(folder)
    if code == errno.ENOENT and folder != _FOLDER:
        if not there:
            errors.raise_errno(-code, f"{tried}: there is no such cgroup")
        why = (
            "only a cgroup of version 2 has this file, while its cgroup.pressure is 1"
            " and the kernel has CONFIG_PSI"
        )
    elif code == errno.ENOENT and there:
        why = f"the kernel does not measure {file}; irq takes CONFIG_IRQ_TIME_ACCOUNTING, 6.1"
    elif code == errno.ENOENT:
        why = (
            "the kernel was built without CONFIG_PSI or booted with psi=0, or this /proc"
            " shows processes only (subset=pid)"
        )
    elif code == errno.EOPNOTSUPP:
        why = "pressure is not measured since boot: it takes psi=1 on the kernel's command line"
    elif code == errno.EPERM:
        errors.raise_errno(-code, f"{tried}: before Linux 6.5 that takes CAP_SYS_RESOURCE")
    elif code == errno.ENODEV:
        errors.raise_errno(-code, f"{tried}: the cgroup was removed", errors.NotFoundError)
    else:
        errors.raise_errno(-code, tried)
    errors.raise_errno(-code, f"{tried}: {why}", errors.NotSupportedError)


def _stall(words: list[bytes]) -> Stall:
    said = dict(word.split(b"=", 1) for word in words)
    return Stall(
        float(said[b"avg10"]),
        float(said[b"avg60"]),
        float(said[b"avg300"]),
        int(said[b"total"]) / 1e6,
    )


def _parse(kind: str, text: bytes, path: str) -> Pressure:
    try:
        lines = [line.split() for line in text.splitlines()]
        found = {words[0]: _stall(words[1:]) for words in lines if words}
    except (KeyError, ValueError):
        found = {}
    some, full = found.get(b"some"), found.get(b"full")
    if some is None and full is None:
        raise OSError(errno.EIO, f"{path} says nothing of stalls: {text[:80]!r}", path)
    return Pressure(kind, some, full)


def pressure(kind: Kind = "memory", cgroup: str | os.PathLike[str] | None = None) -> Pressure:
    """
    Tell which share of the time tasks stood still for want of memory, disk or CPU.

    Anyone may ask, where /proc shows it; in a container too it is the whole
    host's unless *cgroup* is given. One system call for the host's, whose file
    is kept open, a few for a cgroup's. The kernel renews the means every 2 s,
    and the totals when somebody reads them: what is read again within a tick of
    its clock (1 to 10 ms), it does not count, for nobody. So do not read in a
    tight loop; pressure_watch() waits.

    Args:
        kind: "memory", "io", "cpu" or "irq".

        cgroup: The directory of a cgroup of version 2: of its tasks alone.

    Raises:
        NotSupportedError: This kernel does not measure it; the message says why.

        NotFoundError: There is no such cgroup.

    Source: /proc/pressure, and a cgroup's *.pressure files (Documentation/accounting/psi.rst).
    """
    path = _path(kind, cgroup)
    try:
        if cgroup is None:
            text = _files[kind].read()
        else:
            with open(path, "rb", buffering=0) as opened:
                text = opened.read(_TEXT_BYTES_MAX)
    except OSError as error:
        _fail(error, f"reading {path}", path)
    return _parse(kind, text, path)


# ---- arming ----


def _microseconds(stall: float, window: float) -> tuple[int, int]:
    if not _WINDOW_MIN_S <= window <= _WINDOW_MAX_S:
        raise ValueError(f"window={window}: the kernel takes from 0.5 to 10 seconds")
    if not 1e-6 <= stall <= window:
        raise ValueError(f"stall={stall}: from a microsecond to the whole window={window}")
    return round(stall * 1e6), round(window * 1e6)


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError for what is no time to wait."""
    if timeout is not None and not timeout >= 0:  # nor NaN
        raise ValueError(f"timeout={timeout}: seconds from 0 on; None waits for ever")


def poll_time(timeout: float | None) -> float | None:
    """Return what epoll_wait(2) can wait for; what is longer than its 24 days is for ever."""
    return None if timeout is None or timeout > 2e6 else timeout


def _check_line(kind: str, full: bool, cgroup: object) -> None:
    if kind == "irq" and not full:
        raise ValueError("pressure of irq is measured in full only: pass full=True")
    if kind == "cpu" and full and cgroup is None:
        raise ValueError(
            "full=True for the host's CPUs would never fire: while tasks wait for one, another"
            " runs; leave it out, or give a cgroup"
        )


def arm(
    kind: str, stall: float, window: float, full: bool, cgroup: str | os.PathLike[str] | None
) -> tuple[int, str]:
    """Open a pressure file and write a trigger, which lives as long as the returned descriptor."""
    path = _path(kind, cgroup)
    _check_line(kind, full, cgroup)
    stall_us, window_us = _microseconds(stall, window)
    tried = f"watching {path} for {stall_us} of {window_us} microseconds"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        _fail(error, tried, path)
    try:
        # The kernel puts its terminating zero over the last byte.
        os.write(fd, b"%s %d %d\n" % (b"full" if full else b"some", stall_us, window_us))
    except OSError as error:
        os.close(fd)
        if error.errno != errno.EINVAL or window_us % _WINDOW_STEP_US == 0:
            _fail(error, tried, path)
        allowed_s = (window_us // _WINDOW_STEP_US + 1) * _WINDOW_STEP_US // 1_000_000
        errors.raise_errno(
            -errno.EINVAL,
            f"{tried}: without CAP_SYS_RESOURCE a window is a multiple of 2 seconds;"
            f" pass window={allowed_s}",
            errors.AccessError,
        )
    return fd, path


def read_event(file: io.FileIO, kind: str, path: str) -> PressureEvent:
    """Return the pressure of this moment, through the descriptor of a trigger."""
    try:
        text = os.pread(file.fileno(), _TEXT_BYTES_MAX, 0)
    except OSError as error:
        _fail(error, f"reading {path}", path)
    return PressureEvent(time.time(), _parse(kind, text, path))


# ---- descriptors that somebody may have closed under us ----

_lost: list[object] = []  # objects whose number is another file's by now


def leads_to(descriptor: Any) -> str | None:
    """Return what the kernel says a descriptor leads to; None: nothing, or there is no /proc."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor.fileno()}")
    except (OSError, ValueError):
        return None


def release(descriptor: Any, target: str | None) -> None:
    """Close a descriptor, unless its number leads elsewhere now: then it is never closed."""
    now = leads_to(descriptor)
    if now is not None and target is not None and now != target:
        _lost.append(descriptor)  # its end would close the stranger
        return
    try:
        descriptor.close()
    except OSError:
        pass  # closed by a daemonizer


def wake(stop: Any, target: str | None) -> None:
    """Make an eventfd readable, unless its number leads elsewhere now."""
    if leads_to(stop) == target:
        try:
            os.eventfd_write(stop.fileno(), 1)
        except (OSError, ValueError):
            pass  # closed by a daemonizer, where there is no /proc to tell
