"""objects() and reap(): what is listed, whose it is, what is dead, and what is never touched."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import socket
import stat
import struct
import time
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import Channel, MemoryMap, Segment, census, namedir
from memfast._core import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORD = struct.Struct("<QIiQQ32x")  # struct mf_name_record, csrc/layout.h


@pytest.fixture
def key() -> int:
    """Return a key that nobody uses."""
    return random.SystemRandom().randrange(1, 1 << 32)


def named(name: str) -> memfast.Object:
    """Return the one object of that name."""
    (found,) = (one for one in memfast.objects() if one.name == name)
    return found


def with_id(id: int) -> memfast.Object | None:
    return next((one for one in memfast.objects() if one.id == id), None)


def outcomes(name: str, dry_run: bool = False) -> list[str]:
    return [one.outcome for one in memfast.reap(dry_run) if one.name == name]


def left_by_the_dead(*make: Callable[[], object]) -> None:
    """Call them in a child that is killed while it has what they made."""

    def die() -> None:
        kept = [call() for call in make]
        os.kill(os.getpid(), signal.SIGKILL)
        del kept

    with support.forked(die) as pid:
        assert support.exit_status(pid) == -signal.SIGKILL


# ---- what lives ----


def test_a_channel_is_told_with_its_segment_and_who_holds_its_ends(name: str) -> None:
    """Kind, name, id, size, owner, creator, attachments, pids of the ends, path, age."""
    with Channel.create(name) as channel, channel.sender():
        one = named(name)
        size = channel._segment.stat().size
        assert (one.kind, one.id, one.key, one.size) == ("channel", channel.id, None, size)
        assert (one.uid, one.creator_pid, one.nattch) == (os.geteuid(), os.getpid(), 1)
        assert one.pids == (os.getpid(),)
        assert one.state == "alive"
        assert one.path == str(support.NAMES / f"{name}.channel")
        assert 0 <= one.age < 60
        assert [one.id for one in memfast.objects()].count(channel.id) == 1
    assert name not in [one.name for one in memfast.objects()]


def test_an_anonymous_segment_and_a_named_map_are_told(name: str, key: int) -> None:
    """A segment of ours has its id, an open_or_create() one its key, a map its file's size."""
    with (
        Segment.create(5000) as bare,
        Segment.open_or_create(key, 100) as keyed,
        MemoryMap.create(5000, name=name),
    ):
        one, other, third = with_id(bare.id), with_id(keyed.id), named(name)
        assert one is not None
        assert other is not None
        assert (one.kind, one.name, one.path) == ("segment", None, None)
        assert (one.nattch, one.state, one.key) == (1, "alive", None)
        assert (other.kind, other.key, other.state) == ("segment", key, "alive")
        assert (third.kind, third.size, third.id, third.state) == ("map", 5000, None, "alive")
        keyed.remove()


def test_what_shall_stay_without_users_is_not_dead(name: str, key: int) -> None:
    """A map that persists and a segment with a key outlive their makers and reap()."""

    def make() -> None:
        MemoryMap.create(5000, name=name, persist=True).close()
        Segment.open_or_create(key, 100).close()

    left_by_the_dead(make)
    try:
        found = Segment.open(key=key)
        kept = with_id(found.id)
        assert kept is not None
        assert named(name).state == kept.state == "alive"
        memfast.reap(dry_run=False)
        with MemoryMap.open(name) as again:
            assert again.size == 5000
            again.unlink()
    finally:
        found.remove()
        found.close()


def test_a_segment_of_another_program_is_none_of_ours() -> None:
    """Without our mark nothing is listed."""
    libc = support._libc
    id = libc.shmget(0, 4096, 0o1600)
    try:
        assert with_id(id) is None
    finally:
        libc.shmctl(id, 0, None)


# ---- what is dead ----


@pytest.mark.parametrize("make", [Channel.create, lambda name: MemoryMap.create(5000, name=name)])
def test_a_killed_owner_s_name_is_dead_and_reaped(make: object, name: str) -> None:
    """SIGKILL of the only user: "dead"; a dry run changes nothing, reap() removes the file."""
    left_by_the_dead(lambda: make(name))  # type: ignore[operator]
    one = named(name)
    assert one.state == "dead"
    assert one.path is not None
    assert outcomes(name, dry_run=True) == ["would remove"]
    assert os.path.exists(one.path)
    assert outcomes(name) == ["removed"]
    assert not os.path.exists(one.path)
    assert outcomes(name) == []


@pytest.mark.parametrize("make", [Channel.create, lambda name: MemoryMap.create(5000, name=name)])
def test_an_unreaped_owner_is_dead(make: object, name: str) -> None:
    """A zombie has nothing any more."""

    def die() -> None:
        kept = make(name)  # type: ignore[operator]
        os.kill(os.getpid(), signal.SIGKILL)
        del kept

    with support.forked(die) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert named(name).state == "dead"
        assert outcomes(name) == ["removed"]


@pytest.mark.parametrize("make", [Channel.create, lambda name: MemoryMap.create(5000, name=name)])
def test_a_forked_survivor_keeps_it_alive(make: object, name: str) -> None:
    """The creator is killed, a child that has the memory lives: alive until that one ends."""
    reading, writing = os.pipe()

    def die() -> None:
        kept = make(name)  # type: ignore[operator]
        if (child := os.fork()) == 0:
            signal.pause()
        os.write(writing, str(child).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        del kept

    with support.forked(die) as pid:
        survivor = int(os.read(reading, 20))
        try:
            assert support.exit_status(pid) == -signal.SIGKILL
            assert named(name).state == "alive"
            assert outcomes(name) == []
            assert named(name).state == "alive"
        finally:
            os.kill(survivor, signal.SIGKILL)
            os.close(reading)
            os.close(writing)
    support.until(lambda: named(name).state == "dead")
    assert outcomes(name) == ["removed"]


@pytest.mark.parametrize("make", [Channel.create, lambda name: MemoryMap.create(5000, name=name)])
def test_a_stopped_owner_is_alive(make: object, name: str) -> None:
    """SIGSTOP is not death."""

    def stop() -> None:
        with make(name):  # type: ignore[operator]
            os.kill(os.getpid(), signal.SIGSTOP)

    with support.forked(stop) as pid:
        os.waitpid(pid, os.WUNTRACED)
        assert named(name).state == "alive"
        assert outcomes(name) == []
        os.kill(pid, signal.SIGCONT)
        assert support.exit_status(pid) == 0
    assert name not in [one.name for one in memfast.objects()]


# ---- half-born segments ----


@pytest.fixture(params=["", "alive", "keyed", "touched", "given away"])
def half_born(request: pytest.FixtureRequest, key: int) -> Iterator[tuple[str, int]]:
    """Leave a segment as a kill between shmget and IPC_RMID does, but for one difference."""
    what: str = request.param
    reading, writing = os.pipe()
    libc = support._libc
    libc.shmat.restype = support.ctypes.c_void_p

    def make() -> None:
        signed = support.ctypes.c_int(key).value if what == "keyed" else 0
        id = libc.shmget(signed, support.SEGMENT_MARK + 4096, 0o1600)
        if what == "touched":
            support.ctypes.c_char.from_address(libc.shmat(id, None, 0)).value = b"x"
        if what == "given away":
            assert lib.mf_sysv_set(id, -1, 65534, -1) == 0  # to attach it would give it a page
        os.write(writing, str(id).encode())
        if what == "alive":
            signal.pause()

    if what == "given away" and os.geteuid() != 0:
        pytest.skip("only root can give a segment away")
    with support.forked(make) as pid:
        id = int(os.read(reading, 20))
        os.close(reading)
        os.close(writing)
        if what != "alive":
            assert support.exit_status(pid) == 0
        yield what, id
    libc.shmctl(id, 0, None)


def test_only_what_a_kill_left_is_dead(half_born: tuple[str, int]) -> None:
    """Without key, user and page, its creator provably dead: removed. Any one otherwise: stays."""
    what, id = half_born
    one = with_id(id)
    assert one is not None
    states = {"": "dead", "alive": "alive", "keyed": "alive"}
    assert one.state == states.get(what, "unknown")
    reaped = [row.outcome for row in memfast.reap(dry_run=False) if row.id == id]
    assert reaped == (["removed"] if what == "" else [])
    assert (with_id(id) is None) == (what == "")


SAY = """
import memfast, sys
print([(one.state, one.why) for one in memfast.objects() if one.id == int(sys.argv[1])])
print([one for one in memfast.reap(dry_run=False) if one.id == int(sys.argv[1])])
"""


@support.need_root
@pytest.mark.parametrize("half_born", [""], indirect=True)
def test_a_creator_of_another_pid_namespace_is_unknown(half_born: tuple[str, int]) -> None:
    """Seen from another pid namespace nothing proves the creator dead: not touched."""
    said = support.in_namespace("p", SAY, half_born[1])
    assert "'unknown'" in said
    assert said.endswith("[]\n")
    assert with_id(half_born[1]) is not None


@support.need_root
def test_a_record_of_another_ipc_namespace_is_unknown(name: str) -> None:
    """The segment of a name that another IPC namespace published cannot be asked after: stays."""
    left_by_the_dead(lambda: Channel.create(name))
    code = """
import memfast, sys
print(*[one.state for one in memfast.objects() if one.name == sys.argv[1]],
      [one for one in memfast.reap(dry_run=False)])
"""
    assert support.in_namespace("i", code, name) == "unknown []\n"
    assert outcomes(name) == ["removed"]


# ---- what is not ours ----


@pytest.mark.parametrize("suffix", ["map", "channel", "txt", ""])
@pytest.mark.parametrize(
    "kind",
    ["link", "dangling", "directory", "fifo", "socket", "device", "hard link", "owner", "mode"],
)
def test_foreign_things_are_reported_and_never_touched(kind: str, suffix: str, name: str) -> None:
    """A link, FIFO, directory, ... among the names: one "foreign" object; reap() lets it be."""
    if kind in ("device", "owner") and os.geteuid() != 0:
        pytest.skip("needs root")
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    file = support.NAMES / (f"{name}.{suffix}" if suffix else name)
    victim = support.NAMES.parent / f"{name}-victim"
    victim.write_bytes(bytes(64))
    plant(kind, file, victim)
    before = file.lstat()
    try:
        (one,) = (one for one in memfast.objects() if one.path == str(file))
        assert (one.kind, one.state, one.name) == ("foreign", "unknown", file.name)
        assert one.why
        assert str(file) not in [row.path for row in memfast.reap(dry_run=False)]
        after = file.lstat()
        assert after[:6] == before[:6]  # mode, inode, device, links, uid, gid
        assert victim.read_bytes() == bytes(64)
    finally:
        file.rmdir() if kind == "directory" else file.unlink()
        victim.unlink()


def plant(kind: str, file: Path, victim: Path) -> None:
    """Put something under a name that memfast would not have put there."""
    if kind == "link":
        file.symlink_to(victim)
    elif kind == "dangling":
        file.symlink_to("/nowhere")
    elif kind == "directory":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(file))
    elif kind == "device":
        os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    elif kind == "hard link":
        file.hardlink_to(victim)
    else:
        file.write_bytes(bytes(64))
        if kind == "owner":
            os.chown(file, 65534, 65534)
        else:
            file.chmod(0o666)


@pytest.mark.parametrize("forge", [b"", b"x" * 63, b"x" * 65, b"X" + bytes(63)])
def test_a_file_that_is_no_record_is_foreign(forge: bytes, name: str) -> None:
    """Bytes that no memfast wrote are not removed, whatever they are called."""
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    file = support.NAMES / f"{name}.channel"
    file.write_bytes(forge)
    try:
        assert named(file.name).kind == "foreign"
        memfast.reap(dry_run=False)
        assert file.read_bytes() == forge
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("field", "state"), [("version", "unknown"), ("id", "dead"), ("nonce", "dead")]
)
def test_a_forged_record_does_no_harm(field: str, state: str, name: str) -> None:
    """Another version is unknown; one that speaks of no segment, or another's life, is dead."""
    with Channel.create(name) as channel:
        file = support.NAMES / f"{name}.channel"
        magic, version, id, nonce, inode = RECORD.unpack(file.read_bytes())
        forged = {
            "version": (magic, version + 1, id, nonce, inode),
            "id": (magic, version, 2**31 - 1, nonce, inode),
            "nonce": (magic, version, id, nonce ^ 2, inode),
        }
        file.write_bytes(RECORD.pack(*forged[field]))
        assert named(name).state == state
        assert outcomes(name) == (["removed"] if state == "dead" else [])
        with channel.sender() as sender, channel.receiver() as receiver:
            sender.send(b"unharmed")
            assert receiver.recv() == b"unharmed"
        file.unlink(missing_ok=True)


# ---- replaced between the look and the removal ----


def dead_entry(kind: str, name: str) -> namedir.Entry:
    """Return what an onlooker saw of a name left by the dead."""
    make = Channel.create if kind == "channel" else lambda n: MemoryMap.create(5000, name=n)
    left_by_the_dead(lambda: make(name))
    _, found = namedir.entries(os.geteuid())
    (entry,) = (one for one in found if one.name == name)
    return entry


@pytest.mark.parametrize("kind", ["channel", "map"])
def test_a_name_that_was_taken_anew_stays(kind: str, name: str) -> None:
    """Found dead, then replaced by a living one: left alone, and still works."""
    entry = dead_entry(kind, name)
    make = Channel.create if kind == "channel" else lambda n: MemoryMap.create(5000, name=n)
    with make(name):
        assert namedir.reap(entry) in (-errno.ESTALE, -errno.EEXIST)
        assert named(name).state == "alive"


@pytest.mark.parametrize("kind", ["channel", "map"])
def test_a_name_that_somebody_removed_meanwhile_is_no_failure(kind: str, name: str) -> None:
    """Found dead, then removed by another reaper: said so."""
    entry = dead_entry(kind, name)
    assert namedir.reap(entry) == 0
    status = namedir.reap(entry)
    assert status == -errno.ENOENT
    assert census._outcome(status)[0] == "left alone"


@pytest.mark.parametrize("kind", ["channel", "map"])
def test_a_name_that_became_something_foreign_stays(kind: str, name: str) -> None:
    """Found dead, then replaced by a link: neither the link nor its target goes."""
    entry = dead_entry(kind, name)
    file, victim = support.NAMES / entry.file, support.NAMES / f"{name}-victim"
    file.rename(victim)
    file.symlink_to(victim)
    try:
        assert namedir.reap(entry) == -errno.ELOOP
        assert file.is_symlink()
        assert victim.exists()
    finally:
        file.unlink()
        victim.unlink()


def test_a_locked_directory_is_a_failure_that_says_so(name: str) -> None:
    """While another process sits on the directory's lock nothing is removed, and nobody hangs."""
    left_by_the_dead(lambda: Channel.create(name))
    directory = os.open(support.NAMES, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        (row,) = (row for row in memfast.reap(dry_run=False) if row.name == name)
        assert row.outcome == "failed"
        assert "locked" in (row.error or "")
    finally:
        os.close(directory)
    assert outcomes(name) == ["removed"]


@support.need_root
def test_no_directory_is_no_object_and_makes_none() -> None:
    """Looking makes nothing, not even the directory; without /dev/shm there are segments still."""
    code = """
import memfast, os
with memfast.Segment.create(1):
    print([one.kind for one in memfast.objects()], memfast.reap(), os.listdir("/dev/shm"))
"""
    for before in "mount -t tmpfs shm /dev/shm", "mount --bind /proc /dev/shm":
        said = support.in_namespace("mi", code, before=before)
        assert said.startswith("['segment'] [] [")
        assert "memfast" not in said


@pytest.mark.parametrize("file", ["with blank.map", ".hidden.map", ".map", "x" * 101 + ".map"])
def test_what_memfast_could_not_have_named_stays(file: str) -> None:
    """A plain file with a name that create() would refuse is foreign, and not removed."""
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    path = support.NAMES / file
    path.write_bytes(b"somebody's notes")
    try:
        assert named(file).kind == "foreign"
        memfast.reap(dry_run=False)
        assert path.read_bytes() == b"somebody's notes"
    finally:
        path.unlink()


def test_names_cannot_be_more_than_names(name: str) -> None:
    """File names with line ends, escape sequences and broken UTF-8 are told as they are."""
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    raw = f"{name}\n\x1b[2J".encode() + b"\xff.map"
    path = os.path.join(os.fsencode(support.NAMES), raw)
    os.mkdir(path)
    try:
        assert os.fsencode(named(os.fsdecode(raw)).path or "") == path
    finally:
        os.rmdir(path)


def test_the_clock_set_back_makes_no_negative_age() -> None:
    """An age is 0 at least."""
    assert census._age(time.time(), time.time() + 3600) == 0.0


def test_secrets_are_not_told(name: str) -> None:
    """The nonce by which a channel is known is not in what objects() returns."""
    with Channel.create(name) as channel:
        assert str(channel._segment.nonce) not in repr(memfast.objects())
