"""The check that no test leaves anything behind sees each kind of thing that could be left."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING

import pytest
import support

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)


def leak_a_segment(name: str) -> Callable[[], object]:
    segment_id = _libc.shmget(0, support.SEGMENT_MARK, 0o1600)
    assert segment_id >= 0
    return lambda: _libc.shmctl(segment_id, 0, None)


def leak_a_name(name: str) -> Callable[[], object]:
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    (support.NAMES / name).touch()
    return (support.NAMES / name).unlink


def leak_a_descriptor(name: str) -> Callable[[], object]:
    descriptor = os.memfd_create(name)
    return lambda: os.close(descriptor)


def leak_a_child(name: str) -> Callable[[], object]:
    child = support.forked(lambda: time.sleep(60))
    child.__enter__()
    return lambda: child.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("leak", "kind"),
    [
        (leak_a_segment, "segments (id, size, creator)"),
        (leak_a_name, "names"),
        (leak_a_descriptor, "descriptors"),
        (leak_a_child, "children"),
    ],
)
def test_each_kind_of_leak_is_seen(
    leak: Callable[[str], Callable[[], object]], kind: str, name: str
) -> None:
    """What was left is named by its kind, and only while it is there."""
    before = support.Traces()
    undo = leak(name)
    try:
        assert set(support.Traces().left_since(before)) == {kind}
    finally:
        undo()
    assert not support.Traces().left_since(before)
