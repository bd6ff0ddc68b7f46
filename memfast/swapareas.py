"""Swap areas: the partitions and files that memory may be moved out to."""

from __future__ import annotations

import errno

from memfast import errors, kerneltext
from memfast.records import NamedTuple

__all__ = ["SwapArea", "swaps"]


class SwapArea(NamedTuple):
    """One partition or file, a line of /proc/swaps."""

    file: str  # the path; of a file that was removed while in use it ends in " (deleted)"
    type: str  # "partition" or "file"
    size: int  # bytes
    used: int  # bytes
    priority: int  # the highest is filled first; below 0: in the order in which they came


def _parse(text: bytes) -> list[SwapArea]:
    areas = []
    for line in text.splitlines()[1:]:
        words = line.rsplit(None, 4)
        if len(words) == 5:
            file, kind, size_kib, used_kib, priority = words
            areas.append(
                SwapArea(
                    kerneltext.unescape(file),
                    kind.decode(),
                    int(size_kib) * 1024,
                    int(used_kib) * 1024,
                    int(priority),
                )
            )
    return areas


def swaps() -> list[SwapArea]:
    """
    List the swap areas that are in use, in the kernel's order; empty if there is none.

    Anyone may ask. In a container these are the host's, unless lxcfs says
    otherwise. Costs one read of a file.

    Raises:
        NotSupportedError: A kernel without swap, or no /proc.

    Source: /proc/swaps, proc_swaps(5).
    """
    try:
        return _parse(kerneltext.read("/proc/swaps"))
    except ValueError as odd:
        raise OSError(
            errno.EIO, f"reading /proc/swaps: not what the kernel writes: {odd}"
        ) from None
    except OSError as error:
        code = error.errno or errno.EIO
        why, kind = "", None
        if code == errno.ENOENT:
            why = ": the kernel was built without CONFIG_SWAP, or /proc is not mounted whole"
            kind = errors.NotSupportedError
        errors.raise_errno(-code, f"reading /proc/swaps{why}", kind)
