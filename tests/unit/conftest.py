"""What unit tests share: a small channel and both ends of it; memory cgroups to put a child in."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import stats

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def channel() -> memfast.Channel:
    with memfast.Channel.create(capacity=4096) as channel:
        yield channel


@pytest.fixture
def ends(channel: memfast.Channel) -> tuple[memfast.Sender, memfast.Receiver]:
    with channel.sender() as sender, channel.receiver() as receiver:
        yield sender, receiver


@pytest.fixture
def own_cgroup() -> stats.CgroupLevel:
    """Give our own group, if new ones can be made below it."""
    found = stats.cgroup()
    if not found.levels or os.geteuid() != 0 or not os.access(found.levels[0].path, os.W_OK):
        pytest.skip("takes root and a memory cgroup that may be written")
    return found.levels[0]


@pytest.fixture
def nested_cgroups(own_cgroup: stats.CgroupLevel, name: str) -> Iterator[tuple[Path, Path]]:
    """Make a group with a limit of 64 MiB and one without in it; removed again."""
    outer = Path(own_cgroup.path, f"memfast-{name}")
    inner = outer / "inner"
    made: list[Path] = []
    try:
        for folder in outer, inner:
            folder.mkdir()
            made.append(folder)
            control = folder / "cgroup.subtree_control"
            if control.exists() and folder is outer:
                control.write_text("+memory")
        limit = "memory.max" if (outer / "memory.max").exists() else "memory.limit_in_bytes"
        if not (outer / limit).exists():
            pytest.skip("the memory controller is not enabled below our cgroup")
        (outer / limit).write_text(str(64 << 20))
        yield outer, inner
    finally:
        for folder in reversed(made):
            support.until(lambda folder=folder: _removed(folder))


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:  # a task that died is not gone yet
        return error.errno != errno.EBUSY
    return True
