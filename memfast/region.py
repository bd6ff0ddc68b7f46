"""csrc/mapping.c, csrc/advice.c and csrc/room.c in Python: mapped memory, and what to ask of it."""

from __future__ import annotations

import errno
import functools
import io
import os
from operator import index

from memfast import _fast, errors, mapping_errors
from memfast._core import ffi, lib
from memfast.records import NamedTuple
from memfast.views import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Mapped", "Residency", "ask_room", "memfd", "reserve"]

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_KIND = 1  # of _fast.Pages: what munmap(2) gives back


class Residency(NamedTuple):
    """How much of a mapping is in memory (mincore(2))."""

    pages: int  # that the mapping lies in
    resident: int  # of these, in memory
    page_bytes: int
    trusted: bool  # False: the kernel calls every page of a file resident that is not ours to write


def ask_room(tried: str, size: int) -> None:
    """Raise NoSpaceError if this process may not take *size* bytes more."""
    room = ffi.new("uint64_t *")
    lib.mf_room_bytes(room)
    if size > room[0]:
        mapping_errors.raise_room(tried, room[0])


def memfd(tried: str, size: int, mode: int, page_log2: int) -> int:
    """Return the descriptor of a new memfd that nobody can resize; *page_log2* 0: usual pages."""
    if page_log2 == 0:
        ask_room(tried, size)
    unit = 1 << page_log2
    fd = ffi.new("int *")
    status = lib.mf_mapping_memfd(-(-size // unit) * unit, mode, page_log2, fd)
    if status != 0:
        mapping_errors.raise_reserve(status, tried, unit if page_log2 else 0, None)
    return int(fd[0])


def reserve(tried: str, fd: int, size: int, folder: str) -> None:
    """Size a new file and take its blocks from the file system that *folder* is on."""
    status = lib.mf_mapping_reserve(fd, size)
    if status != 0:
        mapping_errors.raise_reserve(status, tried, 0, folder)


def _text(pointer: Any) -> str:
    text: Any = ffi.string(pointer)
    return str(text, "ascii")


@functools.cache
def _advice() -> dict[str, Any]:
    table: dict[str, Any] = {}
    entry: Any
    while (entry := lib.mf_advice_at(len(table))) != ffi.NULL:
        table[_text(entry.name)] = entry
    return table


class Mapped(Attached):
    """A handle on mapped memory: what may be asked of the mapping."""

    __slots__ = ("_fd", "_huge", "_reserved")

    _fd: int  # -1: none
    _huge: int  # the size of the huge pages that it is made of, or 0
    _reserved: bool  # what is given back may be missed later

    def _map(self, tried: str, fd: int, offset: int, size: int, readonly: bool) -> None:
        """Map *size* bytes of *fd* from any *offset*; fd -1 maps memory that only forks share."""
        unit = int(lib.mf_mapping_page_bytes(fd))
        self._size, self._readonly = size, readonly
        self._huge = unit if unit != _PAGE_BYTES else 0
        address = ffi.new("void **")
        status = lib.mf_mapping_map(fd, offset, size, readonly, address)
        if status != 0:
            mapping_errors.raise_reserve(status, tried, self._huge, None)
        self._pages = _fast.Pages(int(ffi.cast("uintptr_t", address[0])), size, readonly, _KIND)

    def _populate(self, tried: str, folder: str | None) -> None:
        """Give every page its memory now; *folder* is where its file is, for the message."""
        _pages, address, size = self._part(0, None)
        status = lib.mf_mapping_populate(address, size)
        if status != 0:
            mapping_errors.raise_reserve(status, tried, self._huge, folder)

    def _part(self, offset: int, length: int | None) -> tuple[_fast.Pages, Any, int]:
        """Return address and size of a part, and what keeps it mapped while the caller works."""
        pages, offset = self.pages, index(offset)
        length = self._size - offset if length is None else index(length)
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ValueError(f"offset {offset}, length {length}: {self!r} has {self._size} bytes")
        return pages, ffi.cast("void *", pages.address + offset), length

    def fileno(self) -> int:
        """Return the descriptor, which stays the map's; io.UnsupportedOperation if it has none."""
        self.pages  # noqa: B018  (raises if closed)
        if self._fd < 0:
            raise io.UnsupportedOperation("an anonymous map has no file descriptor")
        return self._fd

    def flush(self, offset: int = 0, length: int | None = None, wait: bool = True) -> None:
        """
        Write changes back to the file, from the page that *offset* is in; one msync(2).

        *wait* until they are on the disk, or only start. Memory without a file
        on a disk has nothing to write. Raises OSError if the disk failed (EIO).
        """
        _pages, address, size = self._part(offset, length)
        status = lib.mf_mapping_flush(address, size, wait)
        errors.check(status, f"flushing {size} bytes of {self!r} at offset {offset}")

    def advise(self, advice: str, offset: int = 0, length: int | None = None) -> None:
        """
        Tell the kernel how the memory will be used; two calls of madvise(2), the first a probe.

        Args:
            advice: A name of madvise(2) in lower case without MADV_. "remove" zeroes the part and
                gives its memory back; "dontneed" only unmaps it, since all here is shared.

            offset: In bytes, rounded down to a page; where contents change, whole pages only.

        Raises:
            ValueError: The name is unknown (all are listed), unfit for this mapping, or would let
                a view end in SIGSEGV or SIGBUS. NotSupportedError: this kernel lacks it.
        """
        entry = _advice().get(advice)
        if entry is None:
            raise ValueError(f"advice {advice!r} is unknown; there are: {', '.join(_advice())}")
        pages, address, size = self._part(offset, length)
        tried = f"advice {advice!r} on {size} bytes at offset {offset}"
        self._check_advice(tried, entry, pages.address + index(offset), size)
        if not lib.mf_advice_known(address, entry.number):
            raise errors.NotSupportedError(
                errno.EOPNOTSUPP,
                f"{tried}: this kernel lacks it; it exists since Linux {_text(entry.since)}",
            )
        status = lib.mf_advice_give(address, size, entry.number)
        if status != 0:
            mapping_errors.raise_advice(status, tried)

    def _check_advice(self, tried: str, entry: Any, begin: int, size: int) -> None:
        if entry.care == lib.MF_ADVICE_REFUSED:
            raise ValueError(f"{tried} is refused: {_text(entry.refusal)}")
        if entry.care == lib.MF_ADVICE_RESERVED and (self._reserved or self._huge):
            raise ValueError(
                f"{tried} is refused: it gives back what was reserved, and a later touch that"
                " finds no memory is SIGBUS; close the map instead"
            )
        unit, end = self._huge or _PAGE_BYTES, begin + size
        if entry.care != lib.MF_ADVICE_FREE and (
            begin % unit or (end % unit and end != self.pages.address + self._size)
        ):
            raise ValueError(
                f"{tried}: it changes contents, so it must begin and end at a page ({unit} bytes),"
                " lest the neighbours change too"
            )

    def mlock(self, onfault: bool = False) -> None:
        """
        Keep the memory from being swapped out; one mlock2(2). A forked child has no lock.

        *onfault* locks pages when they are touched, and reads none now. Raises
        LimitError, with its value, for RLIMIT_MEMLOCK.
        """
        _pages, address, size = self._part(0, None)
        status = lib.mf_mapping_lock(address, size, onfault)
        if status != 0:
            mapping_errors.raise_lock(status, f"locking {self!r}")

    def munlock(self) -> None:
        """Undo ``mlock()``; one munlock(2)."""
        _pages, address, size = self._part(0, None)
        errors.check(lib.mf_mapping_unlock(address, size), f"unlocking {self!r}")

    def resident(self) -> Residency:
        """Count the pages that are in memory; mincore(2), one call for each 16 MiB."""
        _pages, address, size = self._part(0, None)
        count, there = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        status = lib.mf_mapping_resident(address, size, count, there)
        errors.check(status, f"asking which pages of {self!r} are resident")
        trusted = self._fd < 0 or lib.mf_mapping_truthful(self._fd) == 1
        return Residency(count[0], there[0], _PAGE_BYTES, trusted)
