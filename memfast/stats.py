"""
See memory: the machine's, a process's, a container's; under the names of procps and psutil.

Everything here only reads. Sizes are bytes, times are seconds. What is asked for
at high rates (sysinfo, meminfo, virtual_memory, rss) reads through descriptors
that stay open and keeps the GIL, so that a busy thread does not delay it.
"""

from __future__ import annotations

from memfast.counters import Rates, VmStat, rates, vmstat
from memfast.procmem import Faults, Vma, faults, vmas
from memfast.sysmem import (
    Commit,
    Free,
    MemInfo,
    Memory,
    Swap,
    SwapMemory,
    SysInfo,
    VirtualMemory,
    free,
    meminfo,
    swap_memory,
    sysinfo,
    virtual_memory,
)

__all__ = [
    "Commit",
    "Faults",
    "Free",
    "MemInfo",
    "Memory",
    "Rates",
    "Swap",
    "SwapMemory",
    "SysInfo",
    "VirtualMemory",
    "VmStat",
    "Vma",
    "faults",
    "free",
    "meminfo",
    "rates",
    "swap_memory",
    "sysinfo",
    "virtual_memory",
    "vmas",
    "vmstat",
]
