"""csrc/procmaps.c in Python: the mappings of a process, and what is in memory of each."""

from __future__ import annotations

from memfast import _fast, process_errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Row = TypeVar("_Row", bound=tuple[Any, ...])

__all__ = ["Smap", "Vma", "smaps", "vmas"]


class Vma(NamedTuple):
    """One mapping of a process, a line of /proc/PID/maps."""

    start: int  # the first address
    end: int  # the first address behind it
    perms: str  # "rw-s": read, write, execute, shared (s) or private (p)
    offset: int  # bytes into the file
    device: str  # "fd:01": major and minor of the file system's device, in hexadecimal
    inode: int  # 0: no file
    path: str  # as the kernel prints it: a newline is \012, a removed file ends in " (deleted)"


class Smap(NamedTuple):
    """
    One mapping of a process and how much of it is where, in bytes: a paragraph of /proc/PID/smaps.

    In the kernel's order. What the running kernel does not print is 0.
    """

    start: int  # the first address
    end: int  # the first address behind it
    perms: str  # as in Vma, and so are the next four
    offset: int
    device: str
    inode: int
    path: str
    size: int  # of address space
    kernel_page_size: int  # the file system's; larger than a page for hugetlb
    mmu_page_size: int  # the processor's
    rss: int  # in memory; hugetlb pages are counted apart
    pss: int  # in memory, each page divided by the number of those who map it
    pss_dirty: int  # the changed part of pss
    shared_clean: int  # in memory, mapped more than once, unchanged
    shared_dirty: int  # in memory, mapped more than once, changed
    private_clean: int  # in memory, mapped once, unchanged
    private_dirty: int  # in memory, mapped once, changed: what only this mapping costs
    referenced: int  # touched since it was last cleared
    anonymous: int  # belongs to no file, or is a private copy of a file's page
    ksm: int  # merged with equal pages (ksm)
    lazyfree: int  # may be dropped any time (MADV_FREE)
    anon_huge_pages: int  # anonymous memory in transparent huge pages
    shmem_pmd_mapped: int  # shared memory mapped by huge pages
    file_pmd_mapped: int  # a file's pages mapped by huge pages
    shared_hugetlb: int  # hugetlb pages mapped more than once; not in rss or pss
    private_hugetlb: int  # hugetlb pages mapped once; not in rss or pss
    swap: int  # swapped out
    swap_pss: int  # swapped out, each page divided by the number of those who have it
    locked: int  # kept in memory (mlock(2)), as its share of pss
    thp_eligible: bool  # may get transparent huge pages
    vm_flags: str  # two-letter codes, "rd wr mr mw me ac"; `"lo" in vm_flags` is exact
    other: tuple[tuple[str, int | str], ...]  # (key, value) of lines that are not known here


def _rows(
    pid: int | None,
    with_figures: bool,
    parse: Callable[[Any, type[_Row]], list[_Row]],
    kind: type[_Row],
) -> list[_Row]:
    text, size = ffi.new("char **"), ffi.new("size_t *")
    status = lib.mf_procmaps_read(process_errors.checked_pid(pid), with_figures, text, size)
    if status != 0:
        process_errors.raise_read(status, "mappings", pid)
    try:
        return parse(ffi.buffer(text[0], size[0]), kind)
    finally:
        lib.mf_procmaps_free(text[0])


def vmas(pid: int | None = None) -> list[Vma]:
    """
    List the mappings of a process, by address; empty for a kernel thread or zombie.

    Whoever may trace the process may ask (ptrace(2), PTRACE_MODE_READ). Costs
    what the kernel takes to print /proc/PID/maps, about 0.5 us a mapping, with
    the GIL let go of, and a quarter of that again. The list is read a page at a
    time: a mapping that changes meanwhile may be seen half old; one of a process
    that ends meanwhile is not given in part. A line of another shape than
    proc(5) says is passed over.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        AccessError: This user may not read that process.

        NotSupportedError: /proc is not mounted.

    Source: proc_pid_maps(5).
    """
    return _rows(pid, False, _fast.vmas, Vma)


def smaps(pid: int | None = None) -> list[Smap]:
    """
    List the mappings of a process with what is in memory of each; empty as vmas() is.

    Whoever may trace the process may ask (ptrace(2), PTRACE_MODE_READ). The kernel
    looks at every page, holding the lock that the process needs to map memory: what
    process_exact() costs, and 2 us a mapping to print it, with the GIL let go of.
    Use process_exact() if the sums are enough.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        AccessError: This user may not read that process.

        NotSupportedError: /proc is not mounted, or this kernel has no smaps.

    Source: proc_pid_smaps(5).
    """
    return _rows(pid, True, _fast.smaps, Smap)
