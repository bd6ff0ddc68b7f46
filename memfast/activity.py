"""What a machine does beside its memory: CPU time, disks, slab caches; and what a process runs."""

from __future__ import annotations

import errno
import os

from memfast import _fast, errors, process_errors
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "Activity",
    "Command",
    "CpuTicks",
    "Disk",
    "Slab",
    "activity",
    "command",
    "disks",
    "slabs",
]

_stat = _fast.Procfile("/proc/stat")
_diskstats = _fast.Procfile("/proc/diskstats")
_SECTOR_FIELDS = 11  # of /proc/diskstats before Linux 4.18; more follow since


class CpuTicks(NamedTuple):
    """Time of all CPUs since boot, in ticks (sysconf SC_CLK_TCK a second, 100 nearly anywhere)."""

    user: int  # programs; guest is part of it
    nice: int  # programs of lowered priority; guest_nice is part of it
    system: int  # the kernel
    idle: int
    iowait: int  # idle while a task waited for the disk
    irq: int
    softirq: int
    steal: int  # another guest of the hypervisor ran
    guest: int  # running virtual machines
    guest_nice: int


class Activity(NamedTuple):
    """One reading of /proc/stat."""

    cpu: CpuTicks
    interrupts: int  # since boot
    context_switches: int  # since boot
    boot_time: int  # seconds since 1970
    forks: int  # processes and threads created since boot
    running: int  # tasks that run or could now
    blocked: int  # tasks that wait for the disk now


class Disk(NamedTuple):
    """One block device, a line of /proc/diskstats; counted since boot. A sector is 512 bytes."""

    name: str
    partition: bool  # a part of another device
    reads: int
    reads_merged: int
    sectors_read: int
    reading_ms: int  # of all reads together
    writes: int
    writes_merged: int
    sectors_written: int
    writing_ms: int
    in_progress: int  # now
    busy_ms: int  # with at least one request
    waiting_ms: int  # of all requests together


class Slab(NamedTuple):
    """One cache of the kernel's allocator, a line of /proc/slabinfo."""

    name: str
    active_objects: int
    objects: int
    object_size: int  # bytes
    objects_per_slab: int
    slabs: int
    pages_per_slab: int


def _fail(error: OSError) -> NoReturn:
    code, path = error.errno or errno.EIO, error.filename
    if code == errno.ENOENT:
        errors.raise_errno(
            -code,
            f"reading {path}: it is not there; /proc is not mounted, or mounted with subset=pid"
            " (proc(5)), or this kernel was built without it",
            errors.NotSupportedError,
        )
    if code in (errno.EACCES, errno.EPERM):
        errors.raise_errno(-code, f"reading {path}: only root may")
    raise error


def _cpu(text: bytes) -> CpuTicks:
    """Read the line "cpu  user nice ..."; old kernels end it earlier."""
    words = text.partition(b"\n")[0].split()
    if len(words) < 5 or words[0] != b"cpu":
        raise OSError(errno.EIO, f"/proc/stat does not begin with its line cpu: {text[:40]!r}")
    ticks = [int(word) for word in words[1 : 1 + len(CpuTicks._fields)]]
    return CpuTicks._make(ticks + [0] * (len(CpuTicks._fields) - len(ticks)))


def activity() -> Activity:
    """
    Read what the CPUs have done since boot, and how many tasks run and wait now.

    Anyone may ask. Costs one read through a descriptor that stays open; the
    kernel counts the interrupts of each CPU for it, so the more CPUs the dearer.

    Raises:
        NotSupportedError: /proc is not mounted, or hides it.

    Source: proc_stat(5).
    """
    try:
        text = _stat.read()
    except OSError as error:
        _fail(error)

    def number(key: bytes) -> int:
        return _fast.field(text, key) or 0

    return Activity(
        _cpu(text),
        number(b"intr"),
        number(b"ctxt"),
        number(b"btime"),
        number(b"processes"),
        number(b"procs_running"),
        number(b"procs_blocked"),
    )


def disks() -> list[Disk]:
    """
    List the block devices and their partitions, with what they have read and written.

    Anyone may ask. Costs one read through a descriptor that stays open, and a
    look into /sys/block for each device: a partition is not there.

    Raises:
        NotSupportedError: /proc is not mounted, or hides it.

    Source: /proc/diskstats (Documentation/admin-guide/iostats.rst), /sys/block.
    """
    try:
        text = _diskstats.read()
    except OSError as error:
        _fail(error)
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 + _SECTOR_FIELDS:
            continue  # a partition of Linux 2.4: four figures
        name = os.fsdecode(words[2])
        partition = not os.path.exists("/sys/block/" + name.replace("/", "!"))
        found.append(Disk(name, partition, *map(int, words[3 : 3 + _SECTOR_FIELDS])))
    return found


def slabs() -> list[Slab]:
    """
    List the caches of the kernel's own allocator, by name.

    Root only. Costs a read of /proc/slabinfo, for which the kernel takes a lock
    and counts: not for an interval of less than a second.

    Raises:
        AccessError: This user is not root.

        NotSupportedError: The kernel has no such file.

    Source: slabinfo(5).
    """
    try:
        with open("/proc/slabinfo", "rb") as file:
            lines = file.read().splitlines()[2:]  # below the version and the titles
    except OSError as error:
        _fail(error)
    found = []
    for line in lines:
        words = line.split()
        if len(words) < 16:
            continue
        active, objects, size, per_slab, pages = map(int, words[1:6])
        name = os.fsdecode(words[0])
        found.append(Slab(name, active, objects, size, per_slab, int(words[14]), pages))
    return sorted(found)


class Command(NamedTuple):
    """What a process runs."""

    name: str  # of the program, at most 15 bytes; a thread of the kernel has only this
    arguments: tuple[str, ...]  # the command line; empty for a thread of the kernel or a zombie
    zombie: bool  # it ended, and nobody has asked how


def command(pid: int | None = None) -> Command:
    """
    Tell what a process was started as.

    Anyone may ask, unless /proc is mounted with hidepid=. Costs two small files.
    A process may write over its command line; this is what it says now.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        NotSupportedError: /proc is not mounted.

    Source: proc_pid_cmdline(5), the second and third field of proc_pid_stat(5).
    """
    folder = f"/proc/{process_errors.checked_pid(pid) or 'self'}"
    try:
        with open(f"{folder}/stat", "rb") as file:
            stat = file.read()
        with open(f"{folder}/cmdline", "rb") as file:
            line = file.read()
    except OSError as error:
        code = error.errno or errno.EIO
        if code == errno.ENOENT and os.path.exists("/proc/self"):
            code = errno.ESRCH
        process_errors.raise_read(-code, "command line", pid)
    begin, end = stat.index(b"(") + 1, stat.rindex(b")")  # a name may have both inside
    arguments = os.fsdecode(line.removesuffix(b"\0")).split("\0") if line else ()
    return Command(os.fsdecode(stat[begin:end]), tuple(arguments), stat[end + 2 : end + 3] == b"Z")
