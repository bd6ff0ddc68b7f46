"""csrc/sysmem.c and csrc/meminfo.c in Python: the machine's memory, as free and psutil say it."""

from __future__ import annotations

import errno
import os

from memfast import _fast, errors
from memfast._fast import SysInfo, meminfo, sysinfo, virtual_memory
from memfast.keyed import Keyed
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, NoReturn

__all__ = [
    "Commit",
    "Free",
    "MemInfo",
    "Memory",
    "Swap",
    "SwapMemory",
    "SysInfo",
    "VirtualMemory",
    "free",
    "meminfo",
    "swap_memory",
    "sysinfo",
    "virtual_memory",
]

_meminfo = _fast.Procfile("/proc/meminfo")
_vmstat = _fast.Procfile("/proc/vmstat")
_zoneinfo = _fast.Procfile("/proc/zoneinfo")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def _fail(error: OSError) -> NoReturn:
    """Say what a /proc without these files means; other errors stay as they are."""
    if error.errno == errno.ENOENT:
        errors.raise_errno(
            -errno.ENOENT,
            f"reading {error.filename}: it is not there; /proc is not mounted, or mounted with"
            " subset=pid (proc(5))",
            errors.NotSupportedError,
        )
    raise error


class MemInfo(_fast.Reading, Keyed):
    """
    One reading of /proc/meminfo: every line of it, also those that memfast has never heard of.

    Bytes; ``HugePages_*`` are counts. Keys are the kernel's; attributes are the
    same in snake_case (``active_anon`` for ``Active(anon)``). The text was read
    once; a key is parsed when it is asked for.
    """

    __slots__ = ()
    _source = "/proc/meminfo"
    _keys: ClassVar[dict[str, str]] = {}


class Memory(NamedTuple):
    """The line ``Mem:`` of free(1), in bytes."""

    total: int  # MemTotal
    used: int  # total - available; negative only where the kernel's figures contradict each other
    free: int  # MemFree: nobody uses it for anything
    shared: int  # Shmem: tmpfs and shared memory; part of cache
    buffers: int  # Buffers: block devices and file system metadata
    cache: int  # Cached + SReclaimable: file pages, and slab that can be given back
    available: int  # MemAvailable: what programs can get without swapping


class Swap(NamedTuple):
    """One line of free(1) with three figures: swap, low or high memory, in bytes."""

    total: int
    used: int
    free: int


class Commit(NamedTuple):
    """The line ``Comm:`` of free(1), in bytes; see vm.overcommit_memory, proc_sys_vm(5)."""

    limit: int  # CommitLimit: what may be promised in overcommit mode 2
    committed: int  # Committed_AS: what has been promised

    @property
    def free(self) -> int:
        """What may still be promised; negative where more has been."""
        return self.limit - self.committed


class Free(NamedTuple):
    """What free(1) of procps 4 prints."""

    mem: Memory
    swap: Swap
    low: Swap  # 32-bit kernels; elsewhere all memory is low
    high: Swap
    commit: Commit


class VirtualMemory(NamedTuple):
    """psutil's figures of memory, in its order; bytes, but for ``percent``."""

    total: int  # MemTotal
    available: int  # MemAvailable
    percent: float  # (total - available) / total * 100, to one decimal
    used: int  # total - available, as free(1) since procps 4.0.1 and psutil since 7.1
    free: int  # MemFree
    active: int  # Active: used lately
    inactive: int  # Inactive: not used lately
    buffers: int  # Buffers
    cached: int  # Cached + SReclaimable
    shared: int  # Shmem
    slab: int  # Slab: the kernel's own structures


class SwapMemory(NamedTuple):
    """psutil's figures of swap, in its order; bytes, but for ``percent``."""

    total: int  # SwapTotal
    used: int
    free: int  # SwapFree
    percent: float  # used / total * 100, to one decimal
    sin: int  # read from swap since boot
    sout: int  # written to swap since boot


def free() -> Free:
    """
    Say what free(1) says, in bytes, by the formulas of procps 4.

    Anyone may ask. Costs one read of /proc/meminfo. ``available`` is MemAvailable;
    free memory where the kernel has none or claims more than there is (lxcfs).

    Raises:
        NotSupportedError: /proc is not mounted, or hides it.

    Source: proc_meminfo(5), free(1).
    """
    figures = _fast.free(meminfo()._text)
    return Free(
        Memory._make(figures[0:7]),
        Swap._make(figures[7:10]),
        Swap._make(figures[10:13]),
        Swap._make(figures[13:16]),
        Commit._make(figures[16:18]),
    )


def _estimate() -> int:
    """Guess what is available where the kernel (before 3.14) does not say, as one did then."""
    info = meminfo()
    unused = info.get("MemFree", 0)
    try:
        pages = info["Active(file)"] + info["Inactive(file)"]
        slab = info["SReclaimable"]
        lines = [line.split() for line in _zoneinfo.read().splitlines()]
        low = _PAGE_BYTES * sum(int(words[1]) for words in lines if words[:1] == [b"low"])
    except (KeyError, OSError, ValueError, IndexError):
        return unused + info.get("Cached", 0)
    # Half of it, or as much as the low watermarks ask for, is in use and stays.
    available = unused - low + pages - min(pages // 2, low) + slab - min(slab // 2, low)
    return max(available, 0)


_fast.bind_meminfo(_meminfo, MemInfo, VirtualMemory, _estimate, _fail)


def swap_memory() -> SwapMemory:
    """
    Say what psutil.swap_memory() says: swap in bytes, and what went in and out since boot.

    Anyone may ask. Costs a read of /proc/meminfo and one of /proc/vmstat (16 us,
    more with more CPUs). ``sin`` and ``sout`` are pages of the machine's own size.

    Raises:
        NotSupportedError: /proc is not mounted, or hides it.

    Source: SwapTotal and SwapFree of proc_meminfo(5); pswpin and pswpout of proc_vmstat(5).
    """
    info = meminfo()
    try:
        counters = _vmstat.read()
    except OSError as error:
        _fail(error)
    total, free_ = info.get("SwapTotal", 0), info.get("SwapFree", 0)
    used = max(total - free_, 0)
    return SwapMemory(
        total,
        used,
        free_,
        round(used / total * 100, 1) if total else 0.0,
        (_fast.field(counters, b"pswpin") or 0) * _PAGE_BYTES,
        (_fast.field(counters, b"pswpout") or 0) * _PAGE_BYTES,
    )
