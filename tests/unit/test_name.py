"""Names: what may have one, what stands under one, and what is not trusted."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import MemoryMap
from memfast import name as names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = "test"
RECORD = struct.Struct("<QIiQQ32x")  # struct mf_name_record, csrc/layout.h
PAGE = os.sysconf("SC_PAGESIZE")


def alive(_segment_id: int, _nonce: int) -> bool:
    return True


def dead(_segment_id: int, _nonce: int) -> bool:
    return False


@pytest.fixture
def record(name: str) -> Iterator[Path]:
    """Publish a record (7, 99) under the test's name and return its file."""
    names.publish_segment(name, KIND, 7, 99, alive)
    file = support.NAMES / f"{name}.{KIND}"
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture(params=["link", "directory", "fifo", "socket", "device", "hard link", "foreign"])
def intruder(request: pytest.FixtureRequest, name: str) -> Iterator[str]:
    """Put something that is none of ours under the test's name; give the file's two names."""
    MemoryMap.create(1, name=f"{name}-dir").close()  # the directory is there
    kind: str = request.param
    if kind in ("device", "foreign") and os.geteuid() != 0:
        pytest.skip("needs root")
    files = [support.NAMES / f"{name}.{suffix}" for suffix in (KIND, "map")]
    victim = support.NAMES / f"{name}.victim"
    victim.write_bytes(bytes(64))
    for file in files:
        if kind == "link":
            file.symlink_to(victim)
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
            os.chown(file, 65534, 65534)
    yield kind
    victim.unlink()
    for file in files:
        if kind == "directory":
            file.rmdir()
        else:
            file.unlink()


# ---- names ----


@pytest.mark.parametrize("good", ["a", "A-z_0.9", "x" * 100, "-", "a.map", "..."[:0] + "a.."])
def test_a_plain_name_is_fine(good: str) -> None:
    """1 to 100 letters, digits, dots, hyphens and underscores make a name."""
    names.check(good)


@pytest.mark.parametrize(
    "bad", ["", ".", "..", ".a", "a/b", "../a", "/a", "a\0b", "a b", "ä", "x" * 101, "a\n"]
)
def test_a_name_that_is_no_safe_part_of_a_path_is_refused(bad: str) -> None:
    """Everything else is a ValueError in every call that takes a name; nothing is made."""
    for call in (
        lambda: names.check(bad),
        lambda: names.publish_segment(bad, KIND, 1, 1, alive),
        lambda: names.find_segment(bad, KIND),
        lambda: names.forget_segment(bad, KIND, 1, 1),
        lambda: MemoryMap.create(1, name=bad),
        lambda: MemoryMap.open(bad),
    ):
        with pytest.raises(ValueError, match="name"):
            call()
    with pytest.raises(TypeError):
        names.check(b"bytes")  # type: ignore[arg-type]


# ---- records ----


def test_a_record_is_found_as_it_was_published(name: str, record: Path) -> None:
    """find_segment() gives back id and nonce; each kind has names of its own."""
    assert names.find_segment(name, KIND) == (7, 99)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    with pytest.raises(memfast.NotFoundError):
        names.find_segment(name, "other")


def test_a_record_of_the_living_is_not_replaced(name: str, record: Path) -> None:
    """Publishing under the name of a living segment is ExistsError and changes nothing."""
    inode = record.stat().st_ino
    with pytest.raises(memfast.ExistsError, match=name):
        names.publish_segment(name, KIND, 8, 1, alive)
    assert names.find_segment(name, KIND) == (7, 99)
    assert record.stat().st_ino == inode


def test_a_record_of_the_dead_is_replaced(name: str, record: Path) -> None:
    """Publishing over a dead segment asks for just that one, and takes the name."""
    asked = []

    def ask(segment_id: int, nonce: int) -> bool:
        asked.append((segment_id, nonce))
        return False

    names.publish_segment(name, KIND, 8, 2**64 - 1, ask)
    assert asked == [(7, 99)]
    assert names.find_segment(name, KIND) == (8, 2**64 - 1)
    assert record.exists()


def test_only_the_same_life_is_forgotten(name: str, record: Path) -> None:
    """forget_segment() leaves a newer record alone, and a missing one is no error."""
    assert not names.forget_segment(name, KIND, 7, 98)
    assert not names.forget_segment(name, KIND, 8, 99)
    assert record.exists()
    assert names.forget_segment(name, KIND, 7, 99)
    assert not record.exists()
    assert not names.forget_segment(name, KIND, 7, 99)


@pytest.mark.parametrize(
    "forge",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"X" + raw[1:],
        lambda raw: bytes(64),
        lambda raw: secrets.token_bytes(64),
    ],
)
def test_bytes_that_are_no_record_are_refused(name: str, record: Path, forge: object) -> None:
    """A truncated, grown or foreign file is LayoutError to find, ExistsError to publish over."""
    forged = forge(record.read_bytes())  # type: ignore[operator]
    record.write_bytes(forged)
    with pytest.raises(memfast.LayoutError):
        names.find_segment(name, KIND)
    with pytest.raises(memfast.ExistsError):
        names.publish_segment(name, KIND, 8, 1, dead)
    assert not names.forget_segment(name, KIND, 7, 99)
    assert record.read_bytes() == forged


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_version_is_named(name: str, record: Path, version: int) -> None:
    """A record of another layout version is LayoutError, which names both versions."""
    magic, ours, *rest = RECORD.unpack(record.read_bytes())
    record.write_bytes(RECORD.pack(magic, version, *rest))
    with pytest.raises(memfast.LayoutError, match=f"version {version}, .* has {ours};"):
        names.find_segment(name, KIND)
    with pytest.raises(memfast.ExistsError, match=f"version {version}"):
        names.publish_segment(name, KIND, 8, 1, dead)


def test_a_record_of_another_ipc_namespace_counts_as_alive(name: str, record: Path) -> None:
    """Its segment cannot be looked up here: stale to find, never replaced."""
    *rest, inode = RECORD.unpack(record.read_bytes())
    record.write_bytes(RECORD.pack(*rest, inode + 1))
    with pytest.raises(memfast.StaleHandleError, match="IPC namespace"):
        names.find_segment(name, KIND)
    with pytest.raises(memfast.ExistsError, match="IPC namespace"):
        names.publish_segment(name, KIND, 8, 1, dead)
    assert record.exists()


# ---- what is not trusted ----


def test_what_is_no_file_of_ours_alone_is_refused(name: str, intruder: str) -> None:
    """A link, directory, FIFO, socket, device, hard link or another user's file is AccessError."""
    reason = {"link": "link", "hard link": "hard links", "foreign": "another user's"}
    for call in (
        lambda: names.find_segment(name, KIND),
        lambda: names.publish_segment(name, KIND, 1, 1, dead),
        lambda: MemoryMap.open(name),
        lambda: MemoryMap.open(name, readonly=True),
        lambda: MemoryMap.create(PAGE, name=name),
    ):
        with pytest.raises(memfast.AccessError, match=reason.get(intruder, "FIFO")):
            call()


def test_a_file_that_everybody_may_write_is_refused(name: str, record: Path) -> None:
    """Mode 0666 under a name of ours is AccessError."""
    record.chmod(0o666)
    with pytest.raises(memfast.AccessError, match="mode"):
        names.find_segment(name, KIND)
    with MemoryMap.create(1, name=name) as made:
        os.fchmod(made.fileno(), 0o666)
        with pytest.raises(memfast.AccessError, match="mode"):
            MemoryMap.open(name)
        os.fchmod(made.fileno(), 0o600)


FIND = """
import os, sys
from memfast import errors, name
os.write(1, b"ready\\n")
try:
    name.find_segment(sys.argv[1], "test")
except errors.NotFoundError:
    os.write(1, b"gone\\n")
os._exit(0)
"""


def test_a_name_that_goes_while_it_is_opened_is_not_found(record: Path, tmp_path: Path) -> None:
    """Removed between open(2) and fstat(2) it has no name left: gone, not "further hard links"."""
    trace, code = tmp_path / "trace", support.python(FIND, record.stem)
    tracer = ["strace", "-qq", "-o", str(trace), "-e", "trace=newfstatat"]
    subprocess.run([*tracer, *code], check=True, capture_output=True)
    last = trace.read_text().count("newfstatat(")
    late = f"inject=newfstatat:delay_enter=400000:when={last - 1}+"  # us; then the IPC namespace
    with subprocess.Popen([*tracer, "-e", late, *code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        record.unlink()
        assert child.stdout.read() == b"gone\n"
        assert child.wait() == 0


IN_A_WORLD = """
import memfast, os, sys
from memfast import name
try:
    name.find_segment("a", "test")
except OSError as error:
    print("find", type(error).__name__)
for call in (lambda: memfast.MemoryMap.create(1, name="a"),
             lambda: name.publish_segment("a", "test", 1, 1, lambda i, n: False)):
    try:
        call()
    except OSError as error:
        print(type(error).__name__, error)
"""


@support.need_root
@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("mkdir -m 755 /dev/shm/memfast-0", "AccessError"),
        ("mkdir -m 700 /dev/shm/memfast-0; chown 65534 /dev/shm/memfast-0", "another user's"),
        ("ln -s /tmp /dev/shm/memfast-0", "link"),
        ("touch /dev/shm/memfast-0", "no directory"),
        ("mount --bind /etc /dev/shm", "no tmpfs"),
    ],
)
def test_a_directory_that_is_not_ours_alone_is_refused(before: str, reason: str) -> None:
    """Names are neither read nor made in a directory that others planted or may enter."""
    tmpfs = "mount -t tmpfs shm /dev/shm"
    said = support.in_namespace("m", IN_A_WORLD, before=f"{tmpfs}\n{before}").splitlines()
    assert len(said) == 3
    assert all(reason in line for line in said[1:])


@support.need_root
def test_without_the_directory_a_name_is_just_not_found() -> None:
    """Looking a name up makes nothing: not even the directory."""
    code = """
import memfast, os
from memfast import name
for find in (lambda: name.find_segment("a", "test"), lambda: memfast.MemoryMap.open("a")):
    try:
        find()
    except memfast.NotFoundError as error:
        print(type(error).__name__)
print(os.listdir("/dev/shm"))
"""
    said = support.in_namespace("m", code, before="mount -t tmpfs shm /dev/shm")
    assert said.split() == ["NotFoundError", "NotFoundError", "[]"]


@support.need_root
def test_a_full_dev_shm_publishes_nothing() -> None:
    """Without a free page a record is NoSpaceError, and no name appears."""
    code = """
import memfast, os
from memfast import name
try:
    name.publish_segment("a", "test", 1, 1, lambda i, n: False)
except memfast.NoSpaceError as error:
    print("full", os.listdir("/dev/shm/memfast-0"))
"""
    before = "mount -t tmpfs -o size=64k shm /dev/shm; head -c 64k /dev/zero >/dev/shm/filler"
    assert support.in_namespace("m", code, before=before) == "full []\n"


def test_a_locked_directory_is_an_error_and_not_a_hang(name: str) -> None:
    """While another process sits on the directory's lock, calls end in WaitTimeout."""
    with MemoryMap.create(1, name=name) as made:
        directory = os.open(support.NAMES, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        with pytest.raises(memfast.WaitTimeout, match="locked"):
            MemoryMap.open(name)
        os.close(directory)
        assert MemoryMap.open(name).size == made.size


def test_a_name_whose_owner_died_meanwhile_is_replaced_at_publication(name: str) -> None:
    """Between making way and publishing another may come and die: the name is still taken."""
    fd = names.make_map()
    os.ftruncate(fd, PAGE)
    file = support.NAMES / f"{name}.map"
    file.write_bytes(b"left by the dead")
    names.publish_map(fd, name, 0o600, False)
    assert file.stat().st_ino == os.fstat(fd).st_ino
    with pytest.raises(memfast.ExistsError):
        names.publish_map(fd, name, 0o600, False)
    names.release_map(fd, name)
    assert not file.exists()


def test_the_errno_of_a_refusal_is_the_kernel_s(name: str) -> None:
    """Callers that look at errno see what the system call said."""
    with pytest.raises(FileNotFoundError) as caught:
        MemoryMap.open(name)
    assert caught.value.errno == errno.ENOENT
