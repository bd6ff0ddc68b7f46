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

    _Kind = TypeVar("_Kind", "Sender", "Receiver")

    class _Channel(Protocol):
        def _claim(self, kind: type[_Kind], handed_by: int) -> _Kind: ...
        def _check_open(self) -> None: ...
        def _end_closed(self) -> None: ...


__all__ = ["Receiver", "Sender", "close_at_exit"]


class _End:
    """What both ends have: closing, moving, and how they show themselves."""

    __slots__ = ()

    if TYPE_CHECKING:
        _channel: _Channel

        @property
        def closed(self) -> bool: ...
        def _close(self, at_exit: bool, /) -> None: ...
        def _disown(self) -> int: ...

    def __reduce__(self) -> tuple[object, ...]:
        self._channel._check_open()  # before the end is given up
        keep_while_spawning(self)
        return _take_over, (type(self), self._channel, self._disown())

    def close(self) -> None:
        """
        Give the end back. Closing twice is fine; it never raises.

        What was sent and not received stays for the next receiver. A receiver
        whose borrowed messages are still looked at gives its end back with the
        last view of them. A close in another thread wakes a call that waits.
        """
        self._close(False)
        self._channel._end_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<memfast.{type(self).__name__} {state} of {self._channel!r}>"


class Sender(_End, ring.Sender):
    """
    The writing end of a channel, held by one process until ``close()`` or its death.

    Get one from ``Channel.sender()``. Its threads may share it: each message
    goes in whole. Sending costs one copy, and a system call only if the
    receiver sleeps. After ``close()`` the receiver drains what is left, then
    gets ClosedError; so it does after a ``with`` block that an exception ended
    and after the clean exit of a process: say in a last message of your own
    whether the work was whole. Pickle an end to move it to another process: it
    is then of no more use here. A forked child cannot use it: give it the
    Channel.
    """

    __slots__ = ("_channel",)


class Receiver(_End, ring.Receiver):
    """
    The reading end of a channel, held by one process until ``close()`` or its death.

    Get one from ``Channel.receiver()``. Its threads may share it: each message
    is received once. ``for message in receiver`` ends when the sender closes.
    After ``close()`` the sender's next send raises ClosedError. Pickle an end to
    move it to another process: it is then of no more use here. A forked child
    cannot use it: give it the Channel.
    """

    __slots__ = ("_channel",)


# Weak references to ends, to be given back at a clean exit of the process that claimed them.
_ends: set[weakref.ref[Sender | Receiver]] = set()
_hooked_pid = 0


def _close_ends() -> None:
    for reference in list(_ends):
        end = reference()
        if end is not None:
            end._close(True)


class _Hook:
    """Something to hang multiprocessing's after-fork hook on: it keeps weak references."""


_hook = _Hook()


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
    _ends.add(weakref.ref(end, _ends.discard))
    if _hooked_pid == os.getpid():
        return
    _hooked_pid = os.getpid()
    atexit.register(_close_ends)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _close_at_child_exit()
        util.register_after_fork(_hook, _close_at_child_exit)


def _take_over(kind: type[_Kind], channel: _Channel, claim: int) -> _Kind:
    """Unpickle an end: take the role over from the process that pickled it."""
    return channel._claim(kind, claim)
