"""``memfast pmap -X`` and ``-XX``: what smaps says of each mapping, a column each."""

from __future__ import annotations

from memfast.cli.output import KIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

# Field of stats.Smap -> the kernel's name, in the kernel's order; all are sizes.
_SIZES = {
    "size": "Size",
    "kernel_page_size": "KernelPageSize",
    "mmu_page_size": "MMUPageSize",
    "rss": "Rss",
    "pss": "Pss",
    "pss_dirty": "Pss_Dirty",
    "shared_clean": "Shared_Clean",
    "shared_dirty": "Shared_Dirty",
    "private_clean": "Private_Clean",
    "private_dirty": "Private_Dirty",
    "referenced": "Referenced",
    "anonymous": "Anonymous",
    "ksm": "KSM",
    "lazyfree": "LazyFree",
    "anon_huge_pages": "AnonHugePages",
    "shmem_pmd_mapped": "ShmemPmdMapped",
    "file_pmd_mapped": "FilePmdMapped",
    "shared_hugetlb": "Shared_Hugetlb",
    "private_hugetlb": "Private_Hugetlb",
    "swap": "Swap",
    "swap_pss": "SwapPss",
    "locked": "Locked",
}
_LEFT_OUT = {  # by a single -X
    *("kernel_page_size", "mmu_page_size", "shared_clean", "shared_dirty", "private_clean"),
    *("private_dirty", "anon_huge_pages"),
}
_LEADING = (("Address", 16), ("Perm", 4), ("Offset", 8), ("Device", 0), ("Inode", 0))


def table(options: argparse.Namespace, mappings: list[Any]) -> str:
    """Return the whole table; nothing for a process without mappings."""
    if not mappings:
        return ""
    figures = _figures(options, mappings)
    sums = {title: str(sum(map(int, cells))) for title, cells in figures.items()}
    leading = [
        [f"{one.start:x}", one.perms, f"{one.offset:08x}", one.device, str(one.inode)]
        for one in mappings
    ]
    flags = [one.vm_flags for one in mappings] if options.everything else None
    titles = [title for title, _ in _LEADING] + list(figures)
    rows = [
        [*before, *(cells[row] for cells in figures.values())] for row, before in enumerate(leading)
    ]
    if flags is not None:
        titles.append("VmFlags")
        for row, flag in zip(rows, flags, strict=True):
            row.append(flag)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = [
        max(width, least) for width, (_, least) in zip(widths, _LEADING, strict=False)
    ] + widths[len(_LEADING) :]
    if not options.quiet:
        below = [""] * len(_LEADING) + list(sums.values()) + [""] * (flags is not None)
        widths = [max(w, len(t), len(b)) for w, t, b in zip(widths, titles, below, strict=True)]
    names = [_name(options, one.path) for one in mappings]
    lines = [_line(row, widths) + f" {name}\n" for row, name in zip(rows, names, strict=True)]
    if not options.quiet:
        begin, end = len(_LEADING), len(_LEADING) + len(sums)
        indent = " " * (sum(widths[:begin]) + begin)
        rules = "".join("=" * width + " " for width in widths[begin:end])
        total = _line(list(sums.values()), widths[begin:end])
        lines = [
            _line(titles, widths) + " Mapping\n",
            *lines,
            f"{indent}{rules}\n",
            f"{indent}{total} KB \n",
        ]
    return "".join(lines)


def _figures(options: argparse.Namespace, mappings: list[Any]) -> dict[str, list[str]]:
    """Return title -> a number for each mapping: sizes in KiB, others as they are."""
    found = {
        title: [str(getattr(one, field) // KIB) for one in mappings]
        for field, title in _SIZES.items()
        if options.everything or field not in _LEFT_OUT
    }
    found["THPeligible"] = [str(int(one.thp_eligible)) for one in mappings]
    for key, first in mappings[0].other:  # of a newer kernel
        if isinstance(first, int):
            found[key] = [str(dict(one.other).get(key, 0)) for one in mappings]
    return found


def _line(cells: list[str], widths: list[int]) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _name(options: argparse.Namespace, path: str) -> str:
    if options.show_path or not path.startswith("/"):
        return path
    return path.rpartition("/")[2]
