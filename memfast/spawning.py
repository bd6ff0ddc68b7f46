"""What a pickle needs while multiprocessing starts a process."""

from __future__ import annotations

import sys
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["keep_while_spawning"]


def keep_while_spawning(thing: object) -> bool:
    """
    Keep *thing* alive until the process that is being started has ended; say whether one is.

    Under spawn and forkserver a parent may drop its last handle long before the
    child has unpickled its own. So the object that stands for the child, the
    popen of its ``Process``, holds *thing* too, until this process learns that
    the child has ended (``join()``, ``exitcode``, ``is_alive()``) or forgets
    the ``Process``. Outside such a start nothing is kept.

    Costs two dictionary look-ups; multiprocessing is not imported for it.
    """
    context = sys.modules.get("multiprocessing.context")
    popen: Any = context.get_spawning_popen() if context is not None else None
    if popen is None:
        return False
    kept: list[object] | None = popen.__dict__.get("_memfast_kept")
    if kept is None:
        kept = popen._memfast_kept = []
        popen.poll = _poll_and_drop(weakref.ref(popen))
    kept.append(thing)
    return True


def _poll_and_drop(reference: weakref.ref[Any]) -> Any:
    # In place of popen.poll, through which every way to learn of the end goes.
    # Weak: a cycle would hold the memory until the collector happens to run.
    def poll(*arguments: Any, **options: Any) -> Any:
        popen: Any = reference()
        code = type(popen).poll(popen, *arguments, **options)
        if code is not None:
            popen._memfast_kept.clear()
        return code

    return poll
