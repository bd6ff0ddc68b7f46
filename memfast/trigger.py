"""A trigger on a pressure file: told by the kernel when tasks stand still for too long."""

from __future__ import annotations

import errno
import io
import os
import select
import threading

from memfast import errors, psi
from memfast.psi import PressureEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import NoReturn, Self

__all__ = ["PressureWatch", "pressure_watch"]


class PressureWatch:
    """
    A trigger in the kernel: iterate to wait for its events. ``pressure_watch()`` makes one.

    ``for`` lets other threads run, ``async for`` other tasks; both end after
    ``close()`` from anywhere. One event that comes while nobody waits is kept.
    After a fork the watch belongs to the parent.
    """

    __slots__ = (
        *("_arrived", "_closed", "_epoll", "_event", "_file", "_kind", "_lock", "_loop"),
        *("_descriptors", "_owner", "_path", "_stop", "_timeout", "_users", "__weakref__"),
    )

    def __init__(self, kind: str, fd: int, path: str, timeout: float | None) -> None:
        self._file = io.FileIO(fd)
        self._kind, self._path, self._timeout = kind, path, timeout
        self._owner = os.getpid()
        self._lock = threading.RLock()  # close() may be called by a signal handler
        self._closed = False
        self._users = 0  # of the descriptors: threads, and the event loop as one
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: asyncio.Event | None = None
        self._event: PressureEvent | OSError | None = None  # for the task that asks next
        # The file itself always reads as ready: EPOLLPRI alone says that the trigger fired, and
        # a select loop cannot ask for that. So it watches an epoll descriptor, which asks.
        try:
            self._epoll = select.epoll()
            self._stop = io.FileIO(os.eventfd(0), "r+")
        except OSError:
            self._file.close()
            raise
        self._epoll.register(self._file, select.EPOLLPRI)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._descriptors = [(d, psi.leads_to(d)) for d in (self._stop, self._epoll, self._file)]

    # ---- waiting in a thread ----

    def wait(self, timeout: float | None = None) -> PressureEvent:
        """
        Block until the trigger fires, which it does at most once in a window.

        Any thread may wait; an event goes to one of them. *timeout*: seconds; None: for ever.

        Raises:
            WaitTimeout: The pressure stayed below. The watch goes on.

            ClosedError: This handle was closed, perhaps while waiting.

            NotFoundError: The cgroup was removed.
        """
        psi.check_timeout(timeout)
        self._enter()
        try:
            ready = self._epoll.poll(psi.poll_time(timeout))
            self._check_open()
            if not ready:
                self._time_out(timeout)
            return self._read()
        finally:
            self._leave()

    def now(self) -> PressureEvent:
        """Return the pressure of this moment, without waiting. One system call; see fileno()."""
        self._enter()
        try:
            return self._read()
        finally:
            self._leave()

    def fileno(self) -> int:
        """
        Return a descriptor for a loop of your own: readable once for each event.

        That the loop reports it is the event, and takes it from the kernel:
        call ``now()`` then; ``wait()`` would wait for the next one.
        """
        self._check_open()
        return self._epoll.fileno()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PressureEvent:
        try:
            return self.wait(self._timeout)
        except errors.ClosedError:
            raise StopIteration from None

    def _read(self) -> PressureEvent:
        return psi.read_event(self._file, self._kind, self._path)

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ClosedError(f"{self!r}: this watch was closed; make another one")
        if os.getpid() != self._owner:
            raise errors.ClosedError(f"{self!r} belongs to process {self._owner}; make another one")

    def _time_out(self, timeout: float | None) -> NoReturn:
        raise errors.WaitTimeout(
            errno.ETIMEDOUT, f"{self._path}: no stall as long as asked for within {timeout} s"
        ) from None

    def _enter(self) -> None:
        self._check_open()  # before the lock: a fork may have copied it locked
        with self._lock:
            self._users += 1  # before the look: a signal handler may close between
            if self._closed:
                self._leave()
                self._check_open()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and self._users == 0:
                self._free()

    # ---- waiting in asyncio ----

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PressureEvent:
        import asyncio

        try:
            arrived = self._join(asyncio.get_running_loop())
        except errors.ClosedError:
            raise StopAsyncIteration from None
        try:
            async with asyncio.timeout(self._timeout):
                while self._event is None and not self._closed:
                    await arrived.wait()
        except TimeoutError:
            self._time_out(self._timeout)
        if isinstance(self._event, OSError):
            raise self._event
        event, self._event = self._event, None
        if event is None:
            raise StopAsyncIteration
        arrived.clear()
        return event

    def _join(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """Have *loop* watch our descriptor from now on, not only while a task waits."""
        # To add a descriptor to an epoll asks it whether it is ready, and so takes the event
        # from the kernel: added anew for each wait, one that came just before would be lost.
        import asyncio

        with self._lock:
            self._check_open()
            if self._loop is not loop or self._arrived is None:
                if self._loop is not None and not self._loop.is_closed():
                    raise RuntimeError(f"{self!r} is iterated in another event loop already")
                self._part()
                self._enter()
                self._loop, self._arrived = loop, asyncio.Event()
                loop.add_reader(self._epoll.fileno(), self._notice)
            return self._arrived

    def _notice(self) -> None:
        """Keep what the loop reports for the task that asks next. Called by the loop."""
        with self._lock:
            if self._arrived is None:
                return
            try:
                self._event = None if self._closed else self._read()
            except OSError as error:
                self._event = error
            self._arrived.set()
            if not isinstance(self._event, PressureEvent):
                self._part()  # it would report the end for ever

    def _part(self) -> None:
        """Take our descriptor back from the event loop."""
        loop, self._loop = self._loop, None
        if loop is not None and self._arrived is not None:
            if not loop.is_closed():
                loop.remove_reader(self._epoll.fileno())
            self._arrived.set()
            self._leave()

    # ---- the end ----

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closed

    def close(self) -> None:
        """Remove the trigger; whoever waits is woken and ends. Never raises."""
        if os.getpid() != self._owner:  # all but the descriptors is the parent's
            self._closed = True
            self._free()
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            psi.wake(*self._descriptors[0])  # threads and the loop
            if self._users == 0:
                self._free()
            elif self._loop is not None:
                import asyncio

                if not self._loop.is_running() or self._loop is asyncio._get_running_loop():
                    self._part()  # else its thread does it

    def _free(self) -> None:
        for descriptor, target in self._descriptors:
            psi.release(descriptor, target)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memfast.PressureWatch of {self._path}{', closed' * self._closed}>"


def pressure_watch(
    kind: psi.Kind,
    stall: float,
    window: float,
    *,
    full: bool = False,
    cgroup: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> PressureWatch:
    """
    Ask the kernel to tell whenever tasks stood still for *stall* of *window* seconds.

    Anyone may ask since Linux 6.5, with a window that is a multiple of 2 s;
    other windows, and older kernels, take CAP_SYS_RESOURCE. Costs three
    descriptors and nothing while nothing happens::

        with memfast.pressure_watch("memory", 0.1, 2) as watch:
            for event in watch:  # or: async for
                shed_load(event.pressure)

    Args:
        kind: "memory", "io", "cpu" or "irq".

        stall: Seconds, above 0 and at most *window*.

        window: Seconds, from 0.5 to 10.

        full: Count only the time in which all tasks stood still.

        cgroup: The directory of a cgroup of version 2: of its tasks alone.

        timeout: Seconds that iterating waits for an event; then WaitTimeout is
            raised, and iterating may go on.

    Raises:
        NotSupportedError: This kernel does not measure it; the message says why.

        AccessError: This user may not have such a window, or not write the cgroup's file.

        NotFoundError: There is no such cgroup, or it was removed meanwhile.

    Source: Documentation/accounting/psi.rst, "Monitoring for pressure thresholds".
    """
    psi.check_timeout(timeout)
    fd, path = psi.arm(kind, stall, window, full, cgroup)
    try:
        return PressureWatch(kind, fd, path, timeout)
    except OSError as error:
        errors.raise_errno(-(error.errno or errno.EIO), f"watching {path} with three descriptors")
