"""
See memory: the machine's, a process's, a container's; under the names of procps and psutil.

Everything here only reads. Sizes are bytes, times are seconds. What is asked for
at high rates (sysinfo, meminfo, virtual_memory, rss) reads through descriptors
that stay open and keeps the GIL, so that a busy thread does not delay it.
"""

from __future__ import annotations

from memfast.activity import (
    Activity,
    Command,
    CpuTicks,
    Disk,
    Slab,
    activity,
    command,
    disks,
    slabs,
)
from memfast.cgroups import Cgroup, CgroupLevel, cgroup
from memfast.counters import Rates, VmStat, rates, vmstat
from memfast.nodes import (
    HugePagePool,
    Node,
    TransparentHugePages,
    Zone,
    hugepages,
    numa,
    transparent_hugepages,
    zones,
)
from memfast.procmaps import Smap, Vma, smaps, vmas
from memfast.procmem import (
    Faults,
    ProcessExact,
    ProcessMemory,
    faults,
    process,
    process_exact,
    rss,
)
from memfast.psi import Pressure, PressureEvent, Stall, pressure
from memfast.records import NamedTuple
from memfast.swapareas import SwapArea, swaps
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
from memfast.trigger import PressureWatch, pressure_watch

maps = vmas

__all__ = [
    "Activity",
    "Cgroup",
    "CgroupLevel",
    "Command",
    "Commit",
    "CpuTicks",
    "Disk",
    "Effective",
    "Faults",
    "Free",
    "HugePagePool",
    "MemInfo",
    "Memory",
    "Node",
    "Pressure",
    "PressureEvent",
    "PressureWatch",
    "ProcessExact",
    "ProcessMemory",
    "Rates",
    "Slab",
    "Smap",
    "Stall",
    "Swap",
    "SwapArea",
    "SwapMemory",
    "SysInfo",
    "TransparentHugePages",
    "VirtualMemory",
    "VmStat",
    "Vma",
    "Zone",
    "activity",
    "cgroup",
    "command",
    "disks",
    "effective",
    "faults",
    "free",
    "hugepages",
    "maps",
    "meminfo",
    "numa",
    "pressure",
    "pressure_watch",
    "process",
    "process_exact",
    "rates",
    "rss",
    "slabs",
    "smaps",
    "swap_memory",
    "swaps",
    "sysinfo",
    "transparent_hugepages",
    "virtual_memory",
    "vmas",
    "vmstat",
    "zones",
]


class Effective(NamedTuple):
    """What memory there is for a process, and every term of it; bytes."""

    total: int  # the least of host_total and the cgroups' limits
    available: int  # the least of host_available and what each cgroup with a limit has left
    used: int  # total - available
    source: str  # "cgroup" if a limit makes either of them less than the host's, else "host"
    limit: int | None  # the least limit of the cgroups; None: no limit
    host_total: int  # MemTotal of /proc/meminfo
    host_available: int  # MemAvailable, as free() takes it
    lxcfs: bool  # /proc/meminfo is not the machine's: sysinfo(2) has another total
    cgroup: Cgroup  # its limit, what is available in it, and every level


def effective(pid: int | None = None) -> Effective:
    """
    Say how much memory a process can really have: the machine's, or what its cgroups leave of it.

    Anyone may ask. Costs a read of /proc/meminfo and about five small files for each
    cgroup up to the root. A level leaves its limit less its usage, not counting the
    file pages that nobody used lately (inactive_file), which reclaim takes first.
    Where there is no cgroup, or none with a limit, these are the machine's figures.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        NotSupportedError: /proc is not mounted, or hides meminfo.

    Source: proc_meminfo(5), sysinfo(2), and those of cgroup().
    """
    group, host = cgroup(pid), free().mem
    total = host.total if group.limit is None else min(host.total, group.limit)
    room = total if group.available is None else min(total, group.available)
    available = min(host.available, room)
    bound = total < host.total or available < host.available
    return Effective(
        total,
        available,
        total - available,
        "cgroup" if bound else "host",
        group.limit,
        host.total,
        host.available,
        sysinfo().totalram != host.total,
        group,
    )
