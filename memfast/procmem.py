"""csrc/procmem.c in Python: how much memory a process has, and how often it faulted."""

from __future__ import annotations

import errno
import os

from memfast import _fast, process_errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple

__all__ = ["Faults", "ProcessExact", "ProcessMemory", "faults", "process", "process_exact", "rss"]

_statm = _fast.Procfile("/proc/self/statm")
_resident = _fast.resident


class ProcessMemory(NamedTuple):
    """What the kernel counts of a process's memory anyway, in bytes; 0 where it does not say."""

    rss: int  # in memory (statm's second column)
    vms: int  # of address space
    shared: int  # of rss: files and shared memory, whether or not anyone else maps them
    text: int  # of address space: the program's code
    data: int  # of address space: private and writable, and the stack
    peak_rss: int  # the most rss there ever was (VmHWM)
    peak_vms: int  # (VmPeak)
    swap: int  # anonymous memory swapped out, that of shared memory not counted (VmSwap)
    anon: int  # of rss: of no file (RssAnon)
    file: int  # of rss: mapped files (RssFile)
    shmem: int  # of rss: shared memory and tmpfs (RssShmem)
    locked: int  # kept in memory by mlock(2) (VmLck)
    pinned: int  # may not even move, as for a device (VmPin)
    page_tables: int  # what the kernel needs to map all this (VmPTE)
    stack: int  # of address space: the first thread's stack (VmStk)
    hugetlb: int  # huge pages of hugetlbfs, not in rss (HugetlbPages)


class ProcessExact(NamedTuple):
    """What walking over every page of a process finds, in bytes; 0 where the kernel is older."""

    uss: int  # would be free if the process ended: private_clean + private_dirty + private_hugetlb
    rss: int  # in memory
    pss: int  # in memory, each page divided by the number of those who map it
    pss_dirty: int  # the changed part of pss
    pss_anon: int  # the part of pss of no file
    pss_file: int  # the part of pss of files
    pss_shmem: int  # the part of pss of shared memory and tmpfs
    shared_clean: int  # mapped more than once, unchanged
    shared_dirty: int  # mapped more than once, changed
    private_clean: int  # mapped once, unchanged
    private_dirty: int  # mapped once, changed
    referenced: int  # touched since it was last cleared
    anonymous: int  # belongs to no file, or is a private copy of a file's page
    ksm: int  # merged with equal pages (ksm)
    lazyfree: int  # may be dropped any time (MADV_FREE)
    anon_huge_pages: int  # anonymous memory in transparent huge pages
    shmem_pmd_mapped: int  # shared memory mapped by huge pages
    file_pmd_mapped: int  # a file's pages mapped by huge pages
    shared_hugetlb: int  # hugetlb pages mapped more than once; not in rss or pss
    private_hugetlb: int  # hugetlb pages mapped once; not in rss or pss
    swap: int  # swapped out, shared memory too
    swap_pss: int  # swapped out, each page divided by the number of those who have it
    locked: int  # kept in memory (mlock(2)), as its share of pss


class Faults(NamedTuple):
    """How often a process touched a page that was not mapped, since it began."""

    minor: int  # answered without reading from disk
    major: int  # had to wait for the disk


def rss(pid: int | None = None) -> int:
    """
    Return how much of a process is in memory, in bytes: the one number, at the kernel's price.

    Anyone may ask. Costs one read through a descriptor that stays open for this
    process (about 1 us, the GIL kept), five system calls for another. Counted by
    the kernel anyway, so no page is walked; on many CPUs it may be some pages
    off, since each counts for itself. 0 for a kernel thread or zombie.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

    Source: the second column of statm, proc_pid_statm(5).
    """
    file = _statm
    if pid is not None:
        file = _fast.Procfile(f"/proc/{process_errors.checked_pid(pid)}/statm")
    try:
        return _resident(file)
    except FileNotFoundError:
        there = os.path.exists("/proc/self")
        process_errors.raise_read(-(errno.ESRCH if there else errno.ENOENT), "resident size", pid)
    except OSError as error:
        process_errors.raise_read(-(error.errno or errno.EIO), "resident size", pid)


def process(pid: int | None = None) -> ProcessMemory:
    """
    Read what the kernel counts of a process's memory; zeros for a kernel thread or zombie.

    Anyone may ask, unless /proc is mounted with hidepid=. Costs two small files
    whatever the size of the process: no page is looked at, and the process is not
    held up. The kernel counts for each processor apart, and before Linux 6.17 did
    not add all of it up: rss may then be off by some hundred KiB.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process, or it ended while it was read.

        NotSupportedError: /proc is not mounted.

    Source: proc_pid_statm(5), proc_pid_status(5).
    """
    found = ffi.new("struct mf_procmem *")
    status = lib.mf_procmem_read(process_errors.checked_pid(pid), found)
    if status != 0:
        process_errors.raise_read(status, "memory", pid)
    return ProcessMemory._make(getattr(found, name) for name in ProcessMemory._fields)


def process_exact(pid: int | None = None) -> ProcessExact:
    """
    Have every page of a process counted: what it alone uses (uss), its share (pss), its swap.

    Whoever may trace the process may ask (ptrace(2), PTRACE_MODE_READ). Costs the
    kernel about 10 ms for each GiB in pages of 4 KiB, with the GIL let go of, and
    meanwhile it holds the lock that the process needs to map memory: one of 200 GB
    stands still for seconds. Not for a loop over all processes; process() costs
    the same 20 us for the largest. Zeros for a kernel thread or zombie.

    Before Linux 4.14 smaps is added up instead: the kernel rounds each mapping down
    to a KiB there, and pss is not divided by kind.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        AccessError: This user may not read that process.

        NotSupportedError: /proc is not mounted, or this kernel has no smaps.

    Source: smaps_rollup in proc_pid_smaps(5).
    """
    found = ffi.new("struct mf_procmem_exact *")
    status = lib.mf_procmem_read_exact(process_errors.checked_pid(pid), found)
    if status != 0:
        process_errors.raise_read(status, "pages", pid)
    return ProcessExact._make(getattr(found, name) for name in ProcessExact._fields)


def faults(pid: int | None = None) -> Faults:
    """
    Count the page faults of a process so far, those of all its threads.

    Anyone may ask. Costs one system call for this process, six for another.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

    Source: getrusage(2) for this process, else fields 10 and 12 of proc_pid_stat(5).
    """
    minor, major = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    status = lib.mf_procmem_faults(process_errors.checked_pid(pid), minor, major)
    if status != 0:
        process_errors.raise_read(status, "page faults", pid)
    return Faults(minor[0], major[0])
