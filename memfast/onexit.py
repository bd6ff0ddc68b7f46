"""remove_on_exit: a keyed segment that must not outlive its program, Ctrl+C included."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress

from memfast import errors, shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any, Protocol

    class _Segment(Protocol):
        def stat(self) -> shm.SegmentStat: ...


__all__ = ["remove_on_exit"]

# What this process asked for: id -> (pid that asked, key, creator's pid, creator's uid).
_asked: dict[int, tuple[int, int, int, int]] = {}
# The handlers that were there before ours.
_previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
_hooked_pid = 0


def _remove_all() -> None:
    """Remove what this very process asked for, as far as it still is what it was."""
    while _asked:
        id, (pid, key, creator_pid, cuid) = _asked.popitem()
        if pid != os.getpid():
            continue  # a fork inherited the list
        with suppress(errors.NotFoundError, errors.AccessError):
            now = shm.stat_segment(id)
            if (now.key, now.creator_pid, now.cuid) == (key, creator_pid, cuid) and not now.dest:
                shm.remove_segment(id)


def _handle(number: int, _frame: FrameType | None) -> None:
    """Remove, then let the signal do what it did before: mostly, end this process."""
    try:
        _remove_all()
    finally:
        signal.signal(number, _previous.pop(number, signal.SIG_DFL) or signal.SIG_DFL)
        os.kill(os.getpid(), number)


def remove_on_exit(
    segment: _Segment,
    signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> None:
    """
    Remove a keyed segment when this process ends: at its exit, or by one of these signals.

    The better way needs none of this: ``Segment.create(size)`` without a key is
    freed by the kernel with its last user, SIGKILL included. Use this where others
    must find the segment by key. After a SIGKILL, a crash or ``os._exit()`` the
    segment stays; ``sysv.remove(orphans=True)`` finds it.

    When a signal comes, the segment is removed (others that have it attached keep it
    until they detach), the handler that was there before is put back, and the
    signal is sent again: so the process dies of the same signal, or, with Python's
    own handler of SIGINT, raises KeyboardInterrupt. A signal that is ignored
    (nohup(1)) stays ignored. Only the process that called this removes; its forks
    do not. A segment that somebody else removed or whose id has a new owner is left
    alone. To be called in the main thread if there are signals (signal(2) in
    Python); a Python handler runs between two instructions, so not while a long
    call of C code runs.

    Args:
        segment: An open ``Segment``; the handle may be closed later.

        signals: At which signals; none: only at exit.

    Raises:
        ClosedError: The handle is closed.

        ValueError: Called in another thread, or a signal that cannot be handled; nothing was
            changed then.
    """
    stat = segment.stat()
    previous = {}
    try:
        for number in signals:
            now = signal.getsignal(number)
            if now not in (_handle, signal.SIG_IGN):
                signal.signal(number, _handle)
                previous[number] = now
    except (ValueError, OSError) as error:
        for number, handler in previous.items():
            signal.signal(number, handler)
        raise ValueError(f"remove_on_exit: {error}") from None
    _previous.update(previous)
    _asked[stat.id] = (os.getpid(), stat.key, stat.creator_pid, stat.cuid)
    _hook()


def _hook() -> None:
    """Be called at a clean exit; a child of multiprocessing may skip atexit."""
    global _hooked_pid
    if _hooked_pid == os.getpid():
        return
    _hooked_pid = os.getpid()
    atexit.register(_remove_all)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _remove_all, exitpriority=0)
