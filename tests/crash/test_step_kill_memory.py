"""A process killed before any one instruction of making, opening or naming shared memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from stepping import boundaries

import memfast
from memfast import _core, shm

Prepared = tuple[Callable[[], object], Callable[[int, int], None]]


def segments() -> list[list[str]]:
    rows = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [row.split() for row in rows]


def left_by(pid: int) -> list[list[str]]:
    """Rows of /proc/sysvipc/shm whose creator is *pid*: key id perms size cpid ..., rss at 14."""
    return [row for row in segments() if row[4] == str(pid)]


@pytest.mark.parametrize("readonly", [False, True])
def test_a_creator_killed_anywhere_leaves_at_most_one_segment_without_a_page(
    readonly: bool,
) -> None:
    """Between shmget and IPC_RMID: marked, keyless, pageless, and the next sweep removes it."""
    seen = []

    def prepare() -> Prepared:
        def create() -> None:
            memfast.Segment.create(5000, readonly=readonly)

        def check(boundary: int, pid: int) -> None:
            left = left_by(pid)
            assert len(left) <= 1
            for row in left:
                assert row[0] == "0"
                assert int(row[3]) % 4096 == 3955
                assert row[14] == "0", "a page was touched before the segment was marked"
                seen.append(boundary)
            assert shm.sweep() == len(left)
            assert left_by(pid) == []

        return create, check

    assert boundaries(_core, "mf_sysv_create", prepare, whole=False) > 20
    assert seen, "the window between shmget and IPC_RMID was never hit"


def test_an_opener_killed_anywhere_leaves_the_segment_as_it_was() -> None:
    """Its attachment goes with it; nothing in the segment changes."""
    with memfast.Segment.create(5000) as segment:
        segment.write(b"hello")

        def prepare() -> Prepared:
            def check(boundary: int, pid: int) -> None:
                assert segment.stat().nattch == 1
                with memfast.Segment.open(id=segment.id) as again:
                    assert (again.size, again.read(5)) == (5000, b"hello")

            return lambda: memfast.Segment.open(id=segment.id), check

        assert boundaries(_core, "mf_sysv_open", prepare, whole=False) > 20


def test_a_runner_of_init_killed_anywhere_hands_it_on() -> None:
    """open_or_create's init is whole after the next opener, whatever the last one had done."""
    key = shm.ftok(__file__, 77)

    def prepare() -> Prepared:
        def init(segment: memfast.Segment) -> None:
            segment.write(b"made")

        def make() -> None:
            memfast.Segment.open_or_create(key, 5000, init=init)

        def check(boundary: int, pid: int) -> None:
            with memfast.Segment.open_or_create(key, 5000, init=init) as segment:
                assert segment.read(4) == b"made"
                segment.remove()

        return make, check

    for function in ("mf_sysv_init_claim", "mf_sysv_init_end"):
        assert boundaries(_core, function, prepare, whole=False) > 5


@pytest.mark.parametrize("function", ["mf_record_publish", "mf_record_remove"])
def test_a_channel_s_maker_killed_anywhere_leaves_its_name_absent_or_whole(
    name: str, function: str
) -> None:
    """The name opens, or does not exist, or is stale and gives way to the next channel."""

    def prepare() -> Prepared:
        def make() -> None:
            memfast.Channel.create(name).close()

        def check(boundary: int, pid: int) -> None:
            with contextlib.suppress(memfast.NotFoundError):
                memfast.Channel.open(name).close()
            with memfast.Channel.create(name) as channel, memfast.Channel.open(name) as same:
                assert same.id == channel.id
            with pytest.raises(memfast.NotFoundError):
                memfast.Channel.open(name)

        return make, check

    assert boundaries(_core, function, prepare, whole=False) > 20
