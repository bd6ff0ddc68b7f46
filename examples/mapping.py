"""
What a mapping is: a promise of pages, kept one fault at a time.

Maps a file (the argument, or one of its own that it first drops from the page
cache), and shows which pages come in when, by which faults, and how the kernel
lists the mapping. Run it: python examples/mapping.py [FILE]
"""

import os
import sys
import tempfile

import memfast

PAGE = os.sysconf("SC_PAGESIZE")
OWN_BYTES = 64 * PAGE


def make_cold_file(path: str) -> None:
    """Write a file and drop it from the page cache: only clean pages go, hence the fsync."""
    with open(path, "wb") as file:
        file.write(os.urandom(OWN_BYTES))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def vma_line(mapping: memfast.MemoryMap) -> str:
    """Return the mapping's line in the kernel's list, shortened to 78 columns."""
    address = mapping.pages.address
    vma = next(v for v in memfast.vmas() if v.start <= address < v.end)
    line = f"{vma.start:x}-{vma.end:x} {vma.perms} {vma.offset:08x} {vma.device} {vma.inode} "
    room = 78 - len(line)
    return line + (vma.path if len(vma.path) <= room else "..." + vma.path[3 - room :])


def touch(mapping: memfast.MemoryMap, first: int, count: int, label: str) -> None:
    """Read a byte of each of some pages, and print what that took."""
    view = mapping.buf
    before = memfast.faults()
    for page in range(first, first + count):
        view[page * PAGE]
    after = memfast.faults()
    there = mapping.resident()
    print(
        f"{label:<34} {there.resident:>8} of {there.pages:<8}"
        f" {after.minor - before.minor:>8} {after.major - before.major:>8}"
    )


def show(path: str) -> None:
    """Map the file and watch it come in."""
    with memfast.MemoryMap.file(path) as mapping:
        pages = mapping.resident().pages
        print(f"{path}: {mapping.size} bytes, {pages} pages of {PAGE}")
        print(vma_line(mapping))
        print()
        print(f"{'':<34} {'resident pages':<20} {'minor':>8} {'major':>8}")
        mapping.advise("random")  # no read-ahead: a touch brings in what it touches
        touch(mapping, 0, 0, "mapped, nothing touched")
        some = min(8, pages)
        touch(mapping, 0, some, f"the first {some} pages, touched")
        touch(mapping, 0, some, f"the first {some} pages, once more")
        mapping.advise("sequential")
        touch(mapping, 0, pages, "all pages, with read-ahead")
        mapping.advise("dontneed")
        touch(mapping, 0, pages, "unmapped, then all touched again")
        print()
        print("major: the disk was waited for; minor: the page was in memory already.")


def main() -> int:
    """Run for the file that was named, or for one of our own."""
    if len(sys.argv) > 1:
        try:
            show(sys.argv[1])
        except (OSError, ValueError) as error:
            print(f"mapping.py: {error}", file=sys.stderr)
            return 1
        return 0
    # /var/tmp is on a disk; /tmp may be memory, which cannot be dropped.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as own:
        make_cold_file(own.name)
        show(own.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
