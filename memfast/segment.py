"""Segment: a System V segment that Python can hold, look at, and hand to other processes."""

from __future__ import annotations

import errno
import os
import time

from memfast import errors, shm
from memfast.spawning import keep_while_spawning
from memfast.views import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, NoReturn, Self

__all__ = ["Segment"]

_NAP_MIN, _NAP_MAX = 0.0005, 0.02  # seconds between two looks at a running init


class Segment(Attached):
    """
    A System V segment, attached to this process.

    Made by ``create()``, ``open()`` or ``open_or_create()``. Any thread may use
    it. A child made by fork inherits the attachment: its copy of the handle
    works, and closes on its own. Pickled, it opens the same segment in another
    process, or raises StaleHandleError; it keeps the memory alive only while
    multiprocessing starts a process with it. The memory stays attached until
    ``close()`` was called and the last view of it is gone.
    """

    __slots__ = ("_creator_pid", "_id", "_key", "_nonce")

    _creator_pid: int
    _id: int
    _key: int | None
    _nonce: int

    def __init__(self) -> None:
        raise TypeError("a Segment comes from Segment.create(), open() or open_or_create()")

    @classmethod
    def _of(cls, attachment: shm.Attachment, key: int | None) -> Self:
        self = object.__new__(cls)
        self._pages = attachment.pages
        self._size = attachment.size
        self._readonly = attachment.readonly
        self._id = attachment.id
        self._key = key
        self._nonce = attachment.nonce
        self._creator_pid = attachment.creator_pid
        return self

    @classmethod
    def create(
        cls,
        size: int,
        *,
        key: int | None = None,
        mode: int = 0o600,
        readonly: bool = False,
        hugepages: str | int | None = None,
        noreserve: bool = False,
    ) -> Self:
        """
        Create a segment of *size* zero bytes and attach it.

        Without a key it is anonymous: others open it by ``id``, and the kernel
        frees it with its last user, SIGKILL included. With a key it stays until
        ``remove()``. Its pages are taken at once: "full" is an error here. Costs
        a handful of system calls, and the kernel zeroes every page.

        Args:
            key: 1 to 2**32 - 1, or None. No other segment may have it.

            mode: Permission bits, for those who open it.

            readonly: Leave it attached for reading only; others may write.

            hugepages: None, "2M", "1G" or the size of a huge page in bytes. A segment that fills
                its huge pages to the last byte has no nonce, and no mark for ``shm.sweep()``.

            noreserve: Take no pages now (SHM_NORESERVE); a later store may meet an OOM kill or,
                with huge pages, SIGBUS.

        Raises:
            ExistsError: The key is taken.

            LimitError: shmmax, shmall, shmmni or the pool of huge pages; the message says which.

            NoSpaceError: The machine or the cgroup has not so much memory.
        """
        return cls._of(
            shm.create_segment(size, key, mode, bool(readonly), hugepages, bool(noreserve)), key
        )

    @classmethod
    def open(cls, *, id: int | None = None, key: int | None = None, readonly: bool = False) -> Self:
        """
        Attach an existing segment, by *id* (a ``dest`` one too) or by *key*.

        Whatever the kernel lets this user attach is opened, segments of other
        users and programs too: ``stat()`` says whose it is. *readonly* attaches
        with SHM_RDONLY: no view can write. Costs two or three system calls.
        Raises NotFoundError, AccessError.
        """
        attachment = shm.attach_segment(id, key, bool(readonly))
        return cls._of(attachment, key if key is not None else attachment.key or None)

    @classmethod
    def open_or_create(
        cls,
        key: int,
        size: int,
        *,
        init: Callable[[Segment], object] | None = None,
        mode: int = 0o600,
    ) -> Self:
        """
        Attach the segment that has *key*, or create it; *init* runs once in its whole life.

        ``init(segment)`` is called by one process while the others wait. If it
        raises, or its process dies, the next one calls it: on memory that may be
        half filled. It must not open the same key itself. Without *init* this
        call only waits for one that is running: a look every 20 ms, and signals.

        Unless *mode* lets others in, a segment of another user is refused.
        Raises AccessError, LimitError, NoSpaceError, ValueError (what is there is smaller
        than *size*), LayoutError (it was made by other means: has *init* run?).
        """
        if init is not None and not callable(init):
            raise TypeError(f"init={init!r} cannot be called")
        attachment, joined = shm.join_segment(key, size, mode)
        self = cls._of(attachment, key)
        try:
            if joined:
                self._check_joined(size, mode, init is not None)
            if self._nonce != 0:
                self._initialise(attachment, init)
        except BaseException:
            self.close()
            raise
        return self

    def _check_joined(self, size: int, mode: int, with_init: bool) -> None:
        if self._size < size:
            raise ValueError(
                f"key {self._key:#x}: the segment there has {self._size} bytes, not {size};"
                " remove it, or ask for no more than it has"
            )
        if mode & 0o066 == 0:
            stat, user = self.stat(), os.geteuid()
            if stat.uid != user or stat.cuid not in (user, 0):
                errors.raise_errno(
                    -errno.EACCES,
                    f"key {self._key:#x}: the segment there belongs to uid {stat.uid}, made by"
                    f" uid {stat.cuid}, and mode {mode:#o} is for uid {user} alone; take another"
                    " key, or a mode that lets others in",
                )
        if with_init and self._nonce == 0:
            raise errors.LayoutError(
                f"key {self._key:#x}: the segment there was not made by open_or_create(): it has"
                " no flag that says whether init has run; remove it or take another key"
            )

    def _initialise(
        self, attachment: shm.Attachment, init: Callable[[Segment], object] | None
    ) -> None:
        # `attachment` holds the pages, should init close the segment.
        nap = _NAP_MIN
        while (claim := attachment.claim_init(init is not None)) is None:
            time.sleep(nap)
            nap = min(2 * nap, _NAP_MAX)
        if claim and init is not None:
            done = False
            try:
                init(self)
                done = True
            finally:
                attachment.end_init(claim, done)

    @property
    def id(self) -> int:
        """The number by which other processes of this IPC namespace open it."""
        return self._id

    @property
    def key(self) -> int | None:
        """The key it was made or opened with; None: it has none."""
        return self._key

    @property
    def nonce(self) -> int:
        """A random number that tells this life of the id from any other; 0: not made by memfast."""
        return self._nonce

    def stat(self) -> shm.SegmentStat:
        """
        Return what the kernel says of it (shmctl(2), IPC_STAT).

        Sizes in bytes, times in seconds since the epoch. One system call.
        Raises ClosedError, AccessError.
        """
        self.pages  # noqa: B018  (raises if closed; the id may have a new owner)
        return shm.stat_segment(self._id)

    def chmod(self, mode: int) -> None:
        """Set the permission bits, for owner, creator or root. Raises ClosedError, AccessError."""
        self.pages  # noqa: B018
        if mode < 0:
            raise ValueError(f"mode {mode}: permission bits go from 0 to 0o777")
        shm.change_segment(self._id, mode=mode)

    def chown(self, uid: int, gid: int = -1) -> None:
        """Set owner and group; -1 keeps one. Same callers and errors as ``chmod()``."""
        self.pages  # noqa: B018
        shm.change_segment(self._id, uid=uid, gid=gid)

    def mlock(self) -> None:
        """
        Keep its pages out of swap, for everybody (SHM_LOCK), also after ``close()``.

        One system call. Raises ClosedError, AccessError, LimitError (RLIMIT_MEMLOCK).
        """
        self.pages  # noqa: B018
        shm.lock_segment(self._id, self._size, True)

    def munlock(self) -> None:
        """Take ``mlock()`` back (SHM_UNLOCK)."""
        self.pages  # noqa: B018
        shm.lock_segment(self._id, self._size, False)

    def remove(self) -> Literal["removed", "marked"]:
        """
        Remove it: "removed" if it is gone, "marked" if it goes with its last user.

        While this handle is open, that user is also we; after ``close()`` it
        may be called still. From then on no key leads to it. For owner, creator
        or root. Raises NotFoundError (gone already), AccessError.
        """
        if self._pages is None:
            stat = shm.stat_segment(self._id)
            if stat.creator_pid != self._creator_pid or stat.key not in (self._key or 0, 0):
                self._stale("the id now names another segment")
        return shm.remove_segment(self._id)

    def _stale(self, why: str) -> NoReturn:
        errors.raise_errno(-errno.ESTALE, f"{self!r}: {why}", errors.StaleHandleError)

    def __reduce__(self) -> tuple[object, ...]:
        keep_while_spawning(self.pages)
        here = (_namespace("ipc"), _namespace("pid"))
        return _reopen, (
            (self._id, self._size, self._nonce, self._key),
            (self._creator_pid, *here),
            self._readonly,
        )

    def __repr__(self) -> str:
        key = "" if self._key is None else f" key={self._key:#x}"
        state = "closed" if self._pages is None else "readonly" if self._readonly else "open"
        return f"<memfast.Segment id={self._id}{key} size={self._size} {state}>"


def _namespace(kind: str) -> int:
    return os.stat(f"/proc/self/ns/{kind}").st_ino


def _reopen(
    what: tuple[int, int, int, int | None], origin: tuple[int, int, int], readonly: bool
) -> Segment:
    """Open what a pickle names, if it still is what it was."""
    id, size, nonce, key = what
    creator_pid, ipc_space, pid_space = origin
    handle = f"handle of segment {id}"
    why = ""
    if (here := _namespace("ipc")) != ipc_space:
        why = f"it is of IPC namespace {ipc_space}, and this process lives in {here}"
        errors.raise_errno(-errno.ESTALE, f"{handle}: {why}", errors.StaleHandleError)
    try:
        attachment = shm.attach_segment(id, None, readonly)
    except errors.NotFoundError:
        why = "the segment is gone; keep one handle open until the other process has opened its own"
        errors.raise_errno(-errno.ESTALE, f"{handle}: {why}", errors.StaleHandleError)
    # A pid is comparable within its namespace only; a removed key reads as 0.
    same_space = _namespace("pid") == pid_space
    for name, then, now in (
        ("nonce", nonce, attachment.nonce),
        ("size", size, attachment.size),
        ("key", key or 0, attachment.key or key or 0),
        ("creator", creator_pid, attachment.creator_pid if same_space else creator_pid),
    ):
        if then != now:
            why = f"the id names another segment by now ({name} {now}, not {then})"
            errors.raise_errno(-errno.ESTALE, f"{handle}: {why}", errors.StaleHandleError)
    return Segment._of(attachment, key)
