"""Text files of the kernel, as Python nouns read them: whole, and with its escapes undone."""

from __future__ import annotations

import os

__all__ = ["read", "unescape"]

_ESCAPES = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"))


def read(path: str, root: str = "") -> bytes:
    """Return a whole file. Three system calls or more; *root*: where a test keeps a tree."""
    with open(root + path, "rb", buffering=0) as file:
        return file.read()


def unescape(path: bytes) -> str:
    r"""Undo the \040 of mountinfo and swaps; a lone backslash they write as \134."""
    for escape, byte in _ESCAPES:
        path = path.replace(escape, byte)
    return os.fsdecode(path)
