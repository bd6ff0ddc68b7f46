"""
The two ends of a channel, and how they are given back.

An end is exclusive. It goes back in order when it is closed or when the process
that claimed it ends cleanly, so that only a crash looks like a crash.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref

from memfast import ring
from memfast.spawning import keep_while_spawning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self, TypeVar

    _End = TypeVar("_End", "Sender", "Receiver")

    class _Channel(Protocol):
        def _claim(self, kind: type[_End], handed_by: int) -> _End: ...


__all__ = ["Receiver", "Sender", "close_at_exit"]


class Sender(ring.Sender):
    """
    The writing end of a channel, held by one process until ``close()`` or its death.

    Get one from ``Channel.sender()``. Its threads may share it: each message
    goes in whole. Sending costs one copy, and a system call only if the
    receiver sleeps. Pickle it to move it to another process: it is then of no
    more use here. Iterating, sending and lending are described at the methods.
    """

    __slots__ = ("_channel",)

    _channel: _Channel

    def __reduce__(self) -> tuple[object, ...]:
        keep_while_spawning(self)
        return _take_over, (Sender, self._channel, self._disown())

    def close(self) -> None:
        """
        Give the role back: the receiver drains what is left, then gets ClosedError.

        Closing twice is fine; it never raises. A close in another thread wakes
        a send that waits.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __repr__(self) -> str:
        return f"<memfast.Sender {'closed' if self.closed else 'open'} of {self._channel!r}>"


class Receiver(ring.Receiver):
    """
    The reading end of a channel, held by one process until ``close()`` or its death.

    Get one from ``Channel.receiver()``. Its threads may share it: each message
    is received once. ``for message in receiver`` ends when the sender closes.
    Pickle it to move it to another process: it is then of no more use here.
    """

    __slots__ = ("_channel",)

    _channel: _Channel

    def __reduce__(self) -> tuple[object, ...]:
        keep_while_spawning(self)
        return _take_over, (Receiver, self._channel, self._disown())

    def close(self) -> None:
        """
        Give the role back: the sender's next send raises ClosedError.

        What was not received stays for the next receiver. Closing twice is
        fine; it never raises. A close in another thread wakes a recv that waits.
        """
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __repr__(self) -> str:
        return f"<memfast.Receiver {'closed' if self.closed else 'open'} of {self._channel!r}>"


# Ends to be given back at a clean exit of the process that claimed them.
_ends: weakref.WeakSet[Sender | Receiver] = weakref.WeakSet()
_hooked_pid = 0


def _close_ends() -> None:
    for end in list(_ends):
        end.close()


def _close_at_child_exit(_: object = None) -> None:
    util = sys.modules["multiprocessing.util"]
    util.Finalize(None, _close_ends, exitpriority=0)


def close_at_exit(end: Sender | Receiver) -> None:
    """
    Remember the end, and hook into the ways in which a process ends cleanly.

    A child of multiprocessing may skip atexit and runs the finalizers of
    multiprocessing.util instead. It throws away those registered while its
    arguments were unpickled, then calls what register_after_fork() was given.
    """
    global _hooked_pid
    _ends.add(end)
    if _hooked_pid == os.getpid():
        return
    _hooked_pid = os.getpid()
    atexit.register(_close_ends)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _close_at_child_exit()
        util.register_after_fork(_ends, _close_at_child_exit)


def _take_over(kind: type[_End], channel: _Channel, claim: int) -> _End:
    """Unpickle an end: take the role over from the process that pickled it."""
    return channel._claim(kind, claim)
