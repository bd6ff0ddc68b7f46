"""Files of /proc that stay open: what happens to the descriptor, and what is read after it."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

import pytest
import support

from memfast import _fast

MEMINFO = "/proc/meminfo"
STATM = "/proc/self/statm"


def opened(path: str) -> list[int]:
    """Return the descriptors of this process that lead to *path*."""
    return [number for number, target in support.descriptors().items() if target == path]


def opened_by(file: _fast.Procfile, path: str) -> int:
    """Return the descriptor that the first read opens and keeps."""
    before = opened(path)
    file.read()
    (number,) = set(opened(path)) - set(before)
    return number


def test_the_text_is_the_files() -> None:
    """As read() of the whole file gives it, also where that takes many reads."""
    for path in ("/proc/version", "/proc/cmdline", "/proc/filesystems", "/proc/self/limits"):
        assert _fast.Procfile(path).read() == Path(path).read_bytes()
    # Longer than a page, so the kernel gives it in parts; longer than the first buffer too.
    symbols = Path("/proc/kallsyms").read_bytes()
    assert len(symbols) > 1 << 16
    assert _fast.Procfile("/proc/kallsyms").read() == symbols


def test_it_is_opened_once_and_closed_with_the_object() -> None:
    """One descriptor, close-on-exec, for any number of reads."""
    file = _fast.Procfile(MEMINFO)
    number = opened_by(file, "/proc/meminfo")
    assert not os.get_inheritable(number)
    before = support.descriptors()
    for _ in range(100):
        file.read()
    assert support.descriptors() == before
    del file
    assert number not in support.descriptors()


def test_a_descriptor_closed_by_a_daemonizer_is_opened_anew() -> None:
    """os.closerange() over everything: the next read is right all the same."""
    file = _fast.Procfile(MEMINFO)
    os.close(opened_by(file, "/proc/meminfo"))
    assert file.read().startswith(b"MemTotal:")


def test_a_number_that_became_another_file_is_left_alone(tmp_path: Path) -> None:
    """It is neither read nor closed, by reads, by the end of the object, or in a child."""
    other = tmp_path / "other"
    other.write_bytes(b"MemTotal:  1 kB\n")
    file = _fast.Procfile(MEMINFO)
    number = opened_by(file, "/proc/meminfo")
    stranger = os.open(other, os.O_RDONLY)
    os.dup2(stranger, number)
    os.close(stranger)
    assert b"MemFree:" in file.read()
    with support.forked(file.read) as child:
        assert support.exit_status(child) == 0
    del file
    assert os.pread(number, 8, 0) == b"MemTotal"
    os.close(number)


def test_another_process_is_not_taken_for_us() -> None:
    """A fork of ours has a statm of the same shape; at the number of ours it is left alone."""
    file = _fast.Procfile(STATM)
    number = opened_by(file, f"/proc/{os.getpid()}/statm")
    ballast = 512 << 20

    def child() -> None:
        with mmap.mmap(-1, ballast):
            time.sleep(60)

    with support.forked(child) as pid:
        ours = int(file.read().split()[0])
        support.until(
            lambda: int(Path(f"/proc/{pid}/statm").read_text().split()[0]) > ours + 100_000
        )
        stranger = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
        os.dup2(stranger, number)
        os.close(stranger)
        theirs = int(os.pread(number, 100, 0).split()[0])
        assert theirs - int(file.read().split()[0]) > 50_000
        assert int(os.pread(number, 100, 0).split()[0]) == theirs
        os.close(number)


@pytest.mark.parametrize("path", [MEMINFO, STATM, "/proc/vmstat"])
def test_a_number_that_became_a_pipe_is_not_waited_for(path: str) -> None:
    """It is not read at all: not even a file that would block, with the GIL held, for ever."""
    file = _fast.Procfile(path)
    where = path.replace("self", str(os.getpid()))
    number = opened_by(file, where)
    with open("/dev/kmsg", "rb", buffering=0) as stranger:
        os.lseek(stranger.fileno(), 0, os.SEEK_END)  # a read of it would wait for a message
        os.dup2(stranger.fileno(), number)
        assert file.read()
        assert os.readlink(f"/proc/self/fd/{number}") == "/dev/kmsg"
        os.close(number)


def test_a_saved_copy_is_not_taken_for_the_file(tmp_path: Path) -> None:
    """The same text in a file of the program's own, at the number of ours."""
    saved = tmp_path / "saved"
    file = _fast.Procfile(MEMINFO)
    number = opened_by(file, MEMINFO)
    text = file.read()
    saved.write_bytes(text.replace(b"Dirty:", b"Dorty:"))
    stranger = os.open(saved, os.O_RDONLY)
    os.dup2(stranger, number)
    os.close(stranger)
    assert b"Dorty:" not in file.read()
    os.close(number)


def test_a_forked_child_reads_about_itself() -> None:
    """/proc/self of the parent is not the child's, and the child leaves the parent's alone."""
    file = _fast.Procfile("/proc/self/stat")
    number = opened_by(file, f"/proc/{os.getpid()}/stat")

    def child() -> None:
        for _ in range(2):
            assert file.read().split()[0] == str(os.getpid()).encode()
        assert f"/proc/{os.getppid()}/stat" not in support.descriptors().values()

    with support.forked(child) as pid:
        assert support.exit_status(pid) == 0
    assert file.read().split()[0] == str(os.getpid()).encode()
    assert number in support.descriptors()


def test_a_file_that_is_not_of_procfs_is_not_kept(tmp_path: Path) -> None:
    """lxcfs would be one: no descriptor stays, and a change is seen."""
    path = tmp_path / "meminfo"
    path.write_bytes(b"MemTotal: 1 kB\n")
    file = _fast.Procfile(str(path))
    before = support.descriptors()
    assert file.read() == b"MemTotal: 1 kB\n"
    path.write_bytes(b"MemTotal: 22 kB\n" * 10_000)
    assert file.read() == b"MemTotal: 22 kB\n" * 10_000
    path.write_bytes(b"")
    assert file.read() == b""
    assert support.descriptors() == before


def test_a_process_that_is_gone_is_told() -> None:
    """Its descriptor says ESRCH; the path then says that there is no such file."""
    with support.python_child("input()") as child:
        file = _fast.Procfile(f"/proc/{child.pid}/statm")
        assert file.read().count(b" ") == 6
    with pytest.raises(FileNotFoundError) as caught:
        file.read()
    assert caught.value.filename == f"/proc/{child.pid}/statm"


def test_threads_share_one_file() -> None:
    """Whoever comes first opens it; all read whole texts, and one descriptor is left."""
    file = _fast.Procfile(STATM)
    before = len(opened(f"/proc/{os.getpid()}/statm"))
    texts: list[bytes] = []

    def body() -> None:
        for _ in range(200):
            texts.append(file.read())

    threads = [threading.Thread(target=body) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 1600
    assert all(text.count(b" ") == 6 and text.endswith(b"\n") for text in texts)
    assert len(opened(f"/proc/{os.getpid()}/statm")) == before + 1


def test_bad_paths_are_refused() -> None:
    """A path is a string without NUL; a missing file and a directory say so when read."""
    with pytest.raises(ValueError, match="null byte"):
        _fast.Procfile("/proc/\0meminfo")
    with pytest.raises(TypeError):
        _fast.Procfile(7)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        _fast.Procfile("/proc/of-mars").read()
    with pytest.raises(IsADirectoryError):
        _fast.Procfile("/proc").read()


def test_keys_and_numbers() -> None:
    """Each odd line: what is a figure, what is passed over, and what is too large."""
    text = b"\n".join(
        [
            *(b"A:  12 kB", b"", b"Shadow:7 kB", b"Count:   3", b"Name:\tpython", b"pages 9"),
            *(b"Node 0 Free:  5 kB", b"Node: 6", b":", b": 4 kB", b"Two words: 1", b"Last:"),
            *(b"Huge: 99999999999999999999999 kB", b"Big: 18014398509481984 kB", b"Tail: 8 k"),
        ]
    )
    assert list(_fast.table(text).items()) == [
        *(("A", 12288), ("Shadow", 7168), ("Count", 3), ("pages", 9), ("Free", 5120), ("Node", 6)),
        *(("Huge", 2**64 - 1), ("Big", 2**64 - 1), ("Tail", 8)),
    ]
    for key, value in _fast.table(text).items():
        assert _fast.field(text, key.encode()) == value
    for key in (b"", b"Sha", b"Shadow:", b"Name", b"Last", b"Two", b"kB"):
        assert _fast.field(text, key) is None
    assert _fast.table(b"") == {}
    with pytest.raises(TypeError):
        _fast.table("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _fast.field(text)  # type: ignore[call-arg]
