"""objects() and reap() with several users: each sees and removes its own, root everybody's."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import Channel, MemoryMap, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
THEIRS = Path(f"/dev/shm/memfast-{NOBODY}")

pytestmark = support.need_root


@pytest.fixture(autouse=True)
def nobody_has_nothing(nothing_left: None) -> Iterator[None]:
    """Import all that a user who may not read this tree would import late, and clean up."""
    memfast.reap()
    Channel.create().close()
    MemoryMap.create(1).close()
    yield
    shutil.rmtree(THEIRS, ignore_errors=True)


def as_nobody(function: Callable[[], object]) -> None:
    """Run it in a child of another user, and fail as it fails."""

    def become() -> None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        function()

    with support.forked(become) as pid:
        status = support.exit_status(pid)
        assert status in (0, -signal.SIGKILL), status


def leave(name: str) -> None:
    """Die with a channel and a map of that name."""
    kept = Channel.create(name), MemoryMap.create(5000, name=name)
    os.kill(os.getpid(), signal.SIGKILL)
    del kept


def states(name: str) -> list[tuple[str, int, str]]:
    return [(one.kind, one.uid, one.state) for one in memfast.objects() if one.name == name]


def test_root_sees_and_reaps_what_others_left(name: str) -> None:
    """A channel and a map that a killed process of another user left: dead, and removed by root."""
    as_nobody(lambda: leave(name))
    assert states(name) == [("channel", NOBODY, "dead"), ("map", NOBODY, "dead")]
    rows = [row for row in memfast.reap(dry_run=False) if row.name == name]
    assert [(row.uid, row.outcome) for row in rows] == [(NOBODY, "removed")] * 2
    assert list(THEIRS.iterdir()) == []


def test_root_leaves_alone_what_others_use(name: str) -> None:
    """A living user's channel, map and segment are alive to root too, and stay."""
    ready, go = os.pipe(), os.pipe()

    def use() -> None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with Channel.create(name) as channel, MemoryMap.create(5000, name=name):
            os.write(ready[1], str(channel.id).encode())
            os.read(go[0], 1)
            with Channel.open(name) as again:
                assert again.id == channel.id
            MemoryMap.open(name).close()

    with support.forked(use) as pid:
        id = int(os.read(ready[0], 20))
        assert states(name) == [("channel", NOBODY, "alive"), ("map", NOBODY, "alive")]
        assert name not in [row.name for row in memfast.reap(dry_run=False)]
        nattch = Segment.open(id=id, readonly=True)
        nattch.close()
        os.write(go[1], b"x")
        assert support.exit_status(pid) == 0
    for one in (*ready, *go):
        os.close(one)


def test_others_neither_see_nor_reap_what_is_root_s(name: str) -> None:
    """A user without privileges is told of its own objects alone, and removes no other's."""
    with support.forked(lambda: leave(name)) as pid:
        support.exit_status(pid)

    def look() -> None:
        with Segment.create(1) as own:
            assert {one.uid for one in memfast.objects()} == {NOBODY}
            assert [one.id for one in memfast.objects()] == [own.id]
        assert memfast.reap(dry_run=False) == []

    as_nobody(look)
    assert len(states(name)) == 2
    memfast.reap(dry_run=False)
    assert states(name) == []


def test_others_can_neither_hide_nor_fake_what_is_root_s(name: str, tmp_path: Path) -> None:
    """A record that claims root's segment is unknown; the segment stays listed as root's, whole."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    with Channel.create(name) as channel:
        record = (support.NAMES / f"{name}.channel").read_bytes()
        THEIRS.mkdir(mode=0o700)
        (THEIRS / "forged.channel").write_bytes(record)
        (THEIRS / "link.map").symlink_to(victim)
        os.mkfifo(THEIRS / "fifo.channel")
        for one in THEIRS.iterdir():
            os.chown(one, NOBODY, NOBODY, follow_symlinks=False)
        os.chown(THEIRS, NOBODY, NOBODY)
        kinds = {one.name: (one.kind, one.state) for one in memfast.objects()}
        assert kinds["forged"] == ("channel", "unknown")
        assert kinds["link.map"] == kinds["fifo.channel"] == ("foreign", "unknown")
        assert kinds[name] == ("channel", "alive")
        assert memfast.reap(dry_run=False) == []
        assert len(list(THEIRS.iterdir())) == 3
        assert victim.read_bytes() == b"root's"
        assert channel.stats().used == 0


def test_root_attaches_nobody_else_s_memory(name: str) -> None:
    """The contents of others' segments are theirs to forge: root asks the kernel alone."""
    ready, go = os.pipe(), os.pipe()

    def use() -> None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with Channel.create(name) as channel:
            os.write(ready[1], str(channel.id).encode())
            os.read(go[0], 1)

    with support.forked(use) as pid:
        id = int(os.read(ready[0], 20))
        with_root = Path("/proc/sysvipc/shm").read_text
        (before,) = (line for line in with_root().splitlines() if line.split()[1] == str(id))
        memfast.objects()
        memfast.reap(dry_run=False)
        (after,) = (line for line in with_root().splitlines() if line.split()[1] == str(id))
        assert after == before  # the last user's pid and the time of the last attach too
        os.write(go[1], b"x")
        assert support.exit_status(pid) == 0
    for one in (*ready, *go):
        os.close(one)


@pytest.mark.parametrize("how", ["owner", "mode", "link", "file"])
def test_a_directory_that_is_not_as_it_must_be_is_one_foreign_object(how: str, name: str) -> None:
    """Another user's directory of names that is not theirs alone is reported, never entered."""
    target = THEIRS.with_name(name)
    if how == "link":
        target.mkdir(mode=0o700)
        (target / "x.map").write_bytes(b"x")
        THEIRS.symlink_to(target)
    elif how == "file":
        THEIRS.write_bytes(b"x")
    else:
        THEIRS.mkdir(mode=0o700)
        (THEIRS / "x.map").write_bytes(b"x")
        os.chown(THEIRS / "x.map", NOBODY, NOBODY)
        if how == "mode":
            os.chown(THEIRS, NOBODY, NOBODY)
            THEIRS.chmod(0o755)
    try:
        found = [one for one in memfast.objects() if one.kind == "foreign"]
        assert [(one.path, one.state) for one in found] == [(str(THEIRS), "unknown")]
        assert found[0].why
        assert memfast.reap(dry_run=False) == []
    finally:
        if how == "link":
            shutil.rmtree(target)
        if how in ("link", "file"):
            THEIRS.unlink()


def test_root_removes_what_a_kill_of_another_user_left() -> None:
    """A half-born segment of another user: dead, and root's reap() takes it away."""
    reading, writing = os.pipe()

    def make() -> None:
        id = support._libc.shmget(0, support.SEGMENT_MARK, 0o1600)
        os.write(writing, str(id).encode())

    as_nobody(make)
    id = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    rows = [row for row in memfast.reap(dry_run=False) if row.id == id]
    assert [(row.kind, row.uid, row.outcome) for row in rows] == [("segment", NOBODY, "removed")]
    assert memfast.reap() == []
