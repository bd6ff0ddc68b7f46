"""Where physical memory is: NUMA nodes, their zones, and the pools of huge pages."""

from __future__ import annotations

import errno
import os

from memfast import _fast, errors, kerneltext
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

__all__ = [
    "HugePagePool",
    "Node",
    "TransparentHugePages",
    "Zone",
    "hugepages",
    "numa",
    "transparent_hugepages",
    "zones",
]

_NODES = "/sys/devices/system/node"
_POOLS = "/sys/kernel/mm/hugepages"
_TRANSPARENT = "/sys/kernel/mm/transparent_hugepage"
_ZONE_SIZES = ("free", "min", "low", "high", "spanned", "present", "managed")  # in pages


class Node(NamedTuple):
    """One NUMA node: memory, and the CPUs that are nearest to it."""

    id: int
    cpus: tuple[int, ...]  # none: memory alone, such as CXL
    distances: Mapping[int, int]  # by node id; 10: itself, 20: twice as far
    total: int  # bytes
    free: int  # bytes
    used: int  # bytes: total less free, page cache included
    meminfo: Mapping[str, int]  # every line of the node's meminfo; bytes, HugePages_*: pages
    numastat: Mapping[str, int]  # pages since boot: numa_hit, numa_miss, ...; numastat(8)


class Zone(NamedTuple):
    """One zone of a node; sizes in bytes."""

    node: int
    name: str  # "DMA", "DMA32", "Normal", "Movable", "Device"
    free: int
    min: int  # below this only the kernel's emergencies get memory
    low: int  # below this kswapd wakes up
    high: int  # here kswapd sleeps again
    spanned: int  # from the first to the last address
    present: int  # of that, what is there
    managed: int  # of that, what the page allocator has
    free_areas: tuple[int, ...]  # free blocks of 1, 2, 4, 8, ... pages (/proc/buddyinfo)
    counters: Mapping[str, int]  # all else that the kernel says: pages, and events since boot


class HugePagePool(NamedTuple):
    """The huge pages of one size; all but the size in pages."""

    size: int  # bytes
    total: int
    free: int
    reserved: int  # promised to a mapping, but not touched yet; part of free
    surplus: int  # above the configured number, taken as needed
    overcommit: int  # how many surplus pages there may be


class TransparentHugePages(NamedTuple):
    """When the kernel gives huge pages to memory that did not ask for them."""

    enabled: str  # "always", "madvise" or "never"
    defrag: str  # how hard it tries: "always", "defer", "defer+madvise", "madvise" or "never"
    shmem: str | None  # for shared memory; None: not in this kernel
    size: int  # bytes of one
    sizes: Mapping[int, str]  # bytes of each possible one -> as enabled, or "inherit"; Linux 6.8


def _fail(error: OSError, path: str, takes: str) -> NoReturn:
    if error.errno == errno.ENOENT:
        errors.raise_errno(
            -errno.ENOENT,
            f"reading {path}: it takes {takes}, and /{path.split('/')[1]} mounted whole",
            errors.NotSupportedError,
        )
    errors.raise_errno(-(error.errno or errno.EIO), f"reading {path}")


def _numbers(path: str, prefix: str, suffix: str, root: str) -> list[int]:
    """Return the numbers in the names of a folder's entries, in order."""
    names = [name for name in os.listdir(root + path) if name.startswith(prefix)]
    texts = [name.removeprefix(prefix).removesuffix(suffix) for name in names]
    return sorted(int(text) for text in texts if text.isdigit())


# ---- NUMA nodes ----


def _cpus(text: bytes) -> tuple[int, ...]:
    """Parse "0-3,8,10-11", the list format of cpuset(7)."""
    cpus: list[int] = []
    for part in text.strip().split(b","):
        if part:
            first, _, last = part.partition(b"-")
            cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def _numa(root: str) -> list[Node]:
    try:
        ids = _numbers(_NODES, "node", "", root)
    except OSError as error:
        _fail(error, _NODES, "a kernel with CONFIG_NUMA")
    found = []
    for number in ids:
        folder = f"{_NODES}/node{number}"
        try:
            text = kerneltext.read(f"{folder}/meminfo", root)
            meminfo = _fast.table(text.replace(b"Node %d " % number, b""))
            distances = kerneltext.read(f"{folder}/distance", root).split()
            cpus = _cpus(kerneltext.read(f"{folder}/cpulist", root))
            numastat = _fast.table(kerneltext.read(f"{folder}/numastat", root))
        except FileNotFoundError:
            continue  # unplugged since
        total, free = meminfo.get("MemTotal", 0), meminfo.get("MemFree", 0)
        by_node = dict(zip(ids, map(int, distances), strict=False))
        used = meminfo.get("MemUsed", total - free)
        found.append(Node(number, cpus, by_node, total, free, used, meminfo, numastat))
    return found


def numa() -> list[Node]:
    """
    List the NUMA nodes of this machine; a machine without NUMA has one.

    Anyone may ask. Costs four reads of files for each node.

    Raises:
        NotSupportedError: A kernel without CONFIG_NUMA, or no /sys.

    Source: /sys/devices/system/node (Documentation/ABI/stable/sysfs-devices-node).
    """
    return _numa("")


# ---- zones ----


def _blocks(text: bytes) -> dict[tuple[int, str], tuple[int, ...]]:
    """Parse /proc/buddyinfo: "Node 0, zone  Normal  41398  17804 ...", one count for each order."""
    found = {}
    for line in text.splitlines():
        words = line.replace(b",", b"").split()
        if len(words) > 4:
            found[int(words[1]), words[3].decode()] = tuple(map(int, words[4:]))
    return found


def _zone_figures(lines: list[bytes]) -> dict[str, int]:
    """Return the figures of one zone's lines, from "pages free" to "pagesets"."""
    found: dict[str, int] = {}
    inside = False  # else the node's own, which stand before its first zone's
    for line in lines:
        words = line.split()
        if words[:2] == [b"pages", b"free"]:
            inside, words = True, words[1:]
        elif words == [b"pagesets"]:
            break
        if inside and len(words) == 2 and words[1].isdigit():
            found[words[0].decode()] = int(words[1])
    return found


def _parse_zones(zoneinfo: bytes, buddyinfo: bytes, page_bytes: int) -> list[Zone]:
    blocks = _blocks(buddyinfo)
    found = []
    for part in (b"\n" + zoneinfo).split(b"\nNode ")[1:]:
        title, *lines = part.splitlines()
        number, _, name = title.decode().partition(", zone")
        node, name, figures = int(number), name.strip(), _zone_figures(lines)
        free, minimum, low, high, spanned, present, managed = (
            figures.pop(size, 0) * page_bytes for size in _ZONE_SIZES
        )
        areas = blocks.get((node, name), ())
        found.append(
            Zone(node, name, free, minimum, low, high, spanned, present, managed, areas, figures)
        )
    return found


# Kept open: the kernel finds anew how much room the text takes at each first read.
_zoneinfo, _buddyinfo = _fast.Procfile("/proc/zoneinfo"), _fast.Procfile("/proc/buddyinfo")


def zones() -> list[Zone]:
    """
    List the zones of all nodes: their watermarks, their free blocks and their counters.

    Anyone may ask. Two system calls: the files are kept open. The two are read
    one after the other, so the free blocks are those of a moment later.

    Raises:
        NotSupportedError: /proc is not mounted, or shows processes only.

    Source: /proc/zoneinfo and /proc/buddyinfo (proc_zoneinfo(5), proc_buddyinfo(5)).
    """
    try:
        zoneinfo, buddyinfo = _zoneinfo.read(), _buddyinfo.read()
    except OSError as error:
        _fail(error, error.filename, "a kernel that shows its zones")
    try:
        return _parse_zones(zoneinfo, buddyinfo, os.sysconf("SC_PAGESIZE"))
    except ValueError as odd:
        raise OSError(errno.EIO, f"reading the zones: not what the kernel writes: {odd}") from None


# ---- huge pages ----


def _hugepages(root: str) -> list[HugePagePool]:
    def count(size_kib: int, what: str) -> int:
        return int(kerneltext.read(f"{_POOLS}/hugepages-{size_kib}kB/{what}_hugepages", root))

    counts = "nr", "free", "resv", "surplus", "nr_overcommit"
    try:
        sizes_kib = _numbers(_POOLS, "hugepages-", "kB", root)
        return [
            HugePagePool(kib * 1024, *(count(kib, what) for what in counts)) for kib in sizes_kib
        ]
    except OSError as error:
        _fail(error, _POOLS, "a kernel with CONFIG_HUGETLBFS")


def hugepages() -> list[HugePagePool]:
    """
    List the pools of huge pages, those that a program asks for by name; smallest first.

    hugetlbfs, MAP_HUGETLB and SHM_HUGETLB take from them. Anyone may ask. Costs
    five reads of files for each size.

    Raises:
        NotSupportedError: A kernel without CONFIG_HUGETLBFS, or no /sys.

    Source: /sys/kernel/mm/hugepages (Documentation/admin-guide/mm/hugetlbpage.rst).
    """
    return _hugepages("")


def _chosen(path: str, root: str) -> str:
    """Return the word in brackets: "always [madvise] never"."""
    text = kerneltext.read(path, root)
    return text.partition(b"[")[2].partition(b"]")[0].decode()


def _transparent(root: str) -> TransparentHugePages:
    try:
        sizes_kib = _numbers(_TRANSPARENT, "hugepages-", "kB", root)
        names = os.listdir(root + _TRANSPARENT)
        return TransparentHugePages(
            _chosen(f"{_TRANSPARENT}/enabled", root),
            _chosen(f"{_TRANSPARENT}/defrag", root),
            _chosen(f"{_TRANSPARENT}/shmem_enabled", root) if "shmem_enabled" in names else None,
            int(kerneltext.read(f"{_TRANSPARENT}/hpage_pmd_size", root)),
            {
                kib * 1024: _chosen(f"{_TRANSPARENT}/hugepages-{kib}kB/enabled", root)
                for kib in sizes_kib
                # One of shared memory only has no such file.
                if os.path.exists(f"{root}{_TRANSPARENT}/hugepages-{kib}kB/enabled")
            },
        )
    except OSError as error:
        _fail(error, _TRANSPARENT, "a kernel with CONFIG_TRANSPARENT_HUGEPAGE")


def transparent_hugepages() -> TransparentHugePages:
    """
    Tell when the kernel gives huge pages to memory that did not ask for them by name.

    Anyone may ask. Costs four reads of files, and one for each size since Linux 6.8.

    Raises:
        NotSupportedError: A kernel without CONFIG_TRANSPARENT_HUGEPAGE, or no /sys.

    Source: /sys/kernel/mm/transparent_hugepage (Documentation/admin-guide/mm/transhuge.rst).
    """
    return _transparent("")
