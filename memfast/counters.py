"""/proc/vmstat in Python: what the kernel's memory management has counted since boot."""

from __future__ import annotations

import errno
import os
import time

from memfast import _fast, errors
from memfast.keyed import Keyed
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["Rates", "VmStat", "rates", "vmstat"]

_file = _fast.Procfile("/proc/vmstat")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_KIB = 1024
_DAY_S = 86400


class VmStat(_fast.Reading, Keyed):
    """
    One reading of /proc/vmstat: every counter of the running kernel, by its name.

    ``nr_*`` are what there is now, in pages; most others are events since boot.
    Keys are attributes as well. A key is parsed when it is asked for.
    """

    __slots__ = ()
    _source = "/proc/vmstat"
    _keys: ClassVar[dict[str, str]] = {}


class Rates(NamedTuple):
    """What happened a second, between two readings of /proc/vmstat."""

    seconds: float  # between the two
    swap_in: float  # bytes a second read from swap (pswpin)
    swap_out: float  # bytes a second written to swap (pswpout)
    block_in: float  # bytes a second read from block devices (pgpgin)
    block_out: float  # bytes a second written to them (pgpgout)
    faults: float  # page faults a second, minor and major (pgfault)
    major_faults: float  # those that waited for the disk (pgmajfault)


# Field -> the kernel's counter, and how many bytes (or events) one of it is.
_COUNTED = {
    "swap_in": ("pswpin", _PAGE_BYTES),
    "swap_out": ("pswpout", _PAGE_BYTES),
    "block_in": ("pgpgin", _KIB),
    "block_out": ("pgpgout", _KIB),
    "faults": ("pgfault", 1),
    "major_faults": ("pgmajfault", 1),
}


def vmstat() -> VmStat:
    """
    Read every counter of /proc/vmstat, as a mapping and as attributes.

    Anyone may ask. Costs one read through a descriptor that stays open: about 17 us
    in the kernel, which sums over the CPUs, and more with more of them.

    Raises:
        NotSupportedError: /proc is not mounted, or hides it.

    Source: proc_vmstat(5).
    """
    try:
        return VmStat(_file.read())
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        errors.raise_errno(
            -errno.ENOENT,
            "reading /proc/vmstat: it is not there; /proc is not mounted, or mounted with"
            " subset=pid (proc(5))",
            errors.NotSupportedError,
        )


def between(before: VmStat, after: VmStat, seconds: float) -> Rates:
    """Return what happened a second; a counter that went back began anew, and counts from 0."""
    a_second = []
    for counter, unit in _COUNTED.values():
        then, now = before.get(counter, 0), after.get(counter, 0)
        a_second.append((now - then if now >= then else now) * unit / seconds)
    return Rates(seconds, *a_second)


def rates(interval: float = 1.0) -> Rates:
    """
    Watch the machine for a while: swapping, disk traffic and page faults a second.

    Anyone may ask. Costs two readings of /proc/vmstat, and sleeps between them.

    Args:
        interval: Seconds to watch, more than 0 and not more than a day.

    Raises:
        ValueError: The interval is not more than 0, or more than a day.

        NotSupportedError: /proc is not mounted, or hides it.

    Source: pswpin, pswpout, pgpgin, pgpgout, pgfault and pgmajfault of proc_vmstat(5).
    """
    if not 0 < interval <= _DAY_S:
        raise ValueError(f"interval={interval}: rates look at more than 0 s, and a day at most")
    before, begin = vmstat(), time.monotonic()
    time.sleep(interval)
    after, end = vmstat(), time.monotonic()
    return between(before, after, end - begin)
