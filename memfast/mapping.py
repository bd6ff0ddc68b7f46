"""MemoryMap: memory mapped by mmap(2), without a name, under a name, or a file's."""

from __future__ import annotations

import errno
import os
import weakref

from memfast import errors, files, region
from memfast import name as _name
from memfast.region import Mapped, Residency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["MemoryMap", "Residency"]

_HUGE_LOG2 = {None: 0, "2M": 21, "1G": 30}


def _give_up(fd: int, name: str | None) -> None:
    if name is None:
        os.close(fd)
    else:
        _name.release_map(fd, name)


class MemoryMap(Mapped):
    """
    Memory mapped into this process: without a name, under a name, or a file's.

    Made by ``create()``, ``open()``, ``file()``, ``from_fd()`` or
    ``anonymous()``. Any thread may use it. A child made by fork has the map too
    and closes its copy on its own. Pickled, it maps the same memory in another
    process, and keeps it alive only while multiprocessing starts a process with
    it. The memory stays mapped until ``close()`` was called and the last view
    of it is gone. What ``create()`` made is reserved and never ends in SIGBUS
    while nobody truncates it, which without a name nobody can. A file of your
    own you can truncate; a touch beyond its new end is SIGBUS.
    """

    __slots__ = ("_forget", "_from", "_name")

    _forget: weakref.finalize[..., Self] | None
    _from: int  # where in the file
    _name: str | None

    def __init__(self) -> None:
        raise TypeError("a MemoryMap comes from create(), open(), file(), from_fd() or anonymous()")

    @classmethod
    def _of(
        cls, tried: str, fd: int, offset: int, size: int, readonly: bool, name: str | None = None
    ) -> Self:
        self = object.__new__(cls)
        if name is None:
            self._map(tried, fd, offset, size, readonly)
        else:
            twin = _name.twin_map(fd, readonly)
            try:
                self._map(tried, twin, offset, size, readonly)
            finally:
                os.close(twin)
        self._fd = fd
        self._name, self._from, self._forget = name, offset, None
        self._reserved = name is not None
        return self

    def _own(self) -> Self:
        """Own the descriptor from here on: close(), or the end of the last reference, closes it."""
        self._forget = weakref.finalize(self, _give_up, self._fd, self._name)
        if self._name is not None:
            files.end_with_process(self, self._forget)
        return self

    # ---- making ----

    @classmethod
    def create(
        cls,
        size: int,
        *,
        name: str | None = None,
        mode: int = 0o600,
        hugepages: str | None = None,
        persist: bool = False,
    ) -> Self:
        """
        Create *size* zero bytes: a sealed memfd, or with a name a file in /dev/shm.

        All of it is taken at once, so that "full" is an error here. A memfd is
        not bounded by the size of /dev/shm and cannot be resized by anybody.

        Args:
            name: For other processes of this user: 1 to 100 letters, digits, dots, hyphens and
                underscores. It appears in one step, whole, and goes with the last user; one
                left by the dead is replaced.

            mode: Permission bits of the file: the owner must read, not everybody may write.

            hugepages: None, "2M" or "1G"; without a name only.

            persist: Keep memory and name when nobody uses them, until ``unlink()``.

        Costs about fifty system calls, most of them to learn how much room there is (80 with
        a name), and the kernel zeroes every page.

        Raises:
            ExistsError: The name is in use.

            NoSpaceError: /dev/shm, the machine or the cgroup has not so much memory.

            LimitError: No huge pages, RLIMIT_AS or RLIMIT_FSIZE; the message says which.
        """
        size = files.checked_size(size)
        files.check_mode(mode)
        if hugepages not in _HUGE_LOG2:
            raise ValueError(f"hugepages {hugepages!r}: it must be None, '2M' or '1G'")
        if name is None:
            if persist:
                raise ValueError("only a map with a name can persist")
            tried, folder = f"creating a map of {size} bytes", None
            fd = region.memfd(tried, size, mode, _HUGE_LOG2[hugepages])
        else:
            _name.check(name)
            if hugepages is not None:
                raise ValueError("a named map is a file in /dev/shm: it cannot have hugepages")
            tried, folder = f"creating map {name!r} of {size} bytes", _name.directory()
            _name.clear_map(name)
            region.ask_room(tried, size)
            fd = _name.make_map()
        try:
            if folder is not None:
                region.reserve(tried, fd, size, folder)
            self = cls._of(tried, fd, 0, size, False, name)
            self._populate(tried, folder)
            if name is not None:
                _name.publish_map(fd, name, mode, persist)
            return self._own()
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, name: str, *, readonly: bool = False) -> Self:
        """
        Map what ``create(name=...)`` made, in a process of the same user.

        Costs about twenty system calls.

        Raises:
            NotFoundError: No such name. StaleHandleError: its last user is gone without having
                closed it; the name has been removed.

            AccessError: The name is a link, directory, FIFO or device, another user's, or
                everybody may write to it.
        """
        _name.check(name)
        fd = _name.attach_map(name, readonly)
        return cls._map_file(f"map {name!r}", fd, 0, None, readonly, name)

    @classmethod
    def file(
        cls,
        path: str | bytes | os.PathLike[Any],
        *,
        readonly: bool = True,
        offset: int = 0,
        length: int | None = None,
    ) -> Self:
        """
        Map a file, or a device whose driver maps; changes go to the file.

        Costs five system calls; nothing is read before it is touched.

        Args:
            offset: Where to begin, in bytes; need not be a multiple of the page size.

            length: In bytes; None: to the end of the file. A device needs it.

        Raises:
            NotFoundError, AccessError: As open(2) says. NotSupportedError: its driver or file
                system does not map. ValueError: it is empty, ends before *length*, or is no file.
        """
        fd = files.open_path(path, readonly)
        return cls._map_file(f"file {os.fspath(path)!r}", fd, offset, length, readonly)

    @classmethod
    def from_fd(cls, fd: int, *, length: int | None = None, readonly: bool = False) -> Self:
        """
        Map what is open as *fd*: a regular file, a memfd, a device whose driver maps.

        The descriptor is duplicated and stays the caller's. Costs six system
        calls. *length* and errors: as for ``file()``.
        """
        own = files.duplicate(fd, readonly)
        return cls._map_file(f"file descriptor {fd}", own, 0, length, readonly)

    @classmethod
    def _map_file(
        cls,
        what: str,
        fd: int,
        offset: int,
        length: int | None,
        readonly: bool,
        name: str | None = None,
    ) -> Self:
        try:
            size = files.measure(what, fd, offset, length)
            return cls._of(f"mapping {what}", fd, offset, size, readonly, name)._own()
        except BaseException:
            _give_up(fd, name)
            raise

    @classmethod
    def anonymous(cls, size: int) -> Self:
        """
        Create *size* zero bytes without any descriptor, which reach others by fork alone.

        All of it is taken at once. Costs about fifty system calls, to learn how much room there is.
        """
        size = files.checked_size(size)
        tried = f"creating an anonymous map of {size} bytes"
        region.ask_room(tried, size)
        self = cls._of(tried, -1, 0, size, False)
        self._populate(tried, None)
        return self

    # ---- using ----

    @property
    def name(self) -> str | None:
        """The name, or None."""
        return self._name

    def unlink(self) -> None:
        """
        Remove the name now; who has the memory mapped keeps it. Four system calls.

        Raises:
            NotFoundError: The name is gone already, or stands for a newer map.

            ValueError: The map has no name.
        """
        self.pages  # noqa: B018  (raises if closed)
        if self._name is None:
            raise ValueError("this MemoryMap has no name to unlink")
        _name.unlink_map(self._fd, self._name)

    def close(self) -> None:
        """
        Give the handle up; the memory stays mapped while views of it live.

        The last user's close removes the name too, unless it persists. Closing
        twice is fine; it never raises.
        """
        super().close()
        if self._forget is not None:
            self._forget()

    def __reduce__(self) -> tuple[Any, ...]:
        self.pages  # noqa: B018  (raises if closed)
        if self._fd < 0:
            raise TypeError("an anonymous map reaches other processes by fork alone; use create()")
        ticket = files.ticket(self._fd)
        return _restore, (ticket, self._name, self._from, self._size, self._readonly)

    def __repr__(self) -> str:
        which = "" if self._name is None else f" {self._name!r}"
        state = "closed" if self.closed else "read-only" if self._readonly else "writable"
        return f"<MemoryMap{which}: {self._size} bytes, {state}>"


def _restore(
    ticket: files.Ticket, name: str | None, offset: int, size: int, readonly: bool
) -> MemoryMap:
    """Map in this process what another one pickled."""
    if name is not None and not files.carries(ticket):
        fd = _name.attach_map(name, readonly)
        if not files.same(ticket, fd):
            _name.release_map(fd, name)
            raise errors.StaleHandleError(
                errno.ESTALE, f"a pickled map {name!r}: the name stands for a newer map"
            )
    else:
        fd = files.reopen(ticket, readonly)
    return MemoryMap._map_file("a pickled map", fd, offset, size, readonly, name)
