"""A process's mappings and faults: what the kernel prints, and what cannot be asked."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import support

import memfast
from memfast import Vma

PAGE = mmap.PAGESIZE


def by_hand(text: str) -> list[Vma]:
    """Parse /proc/PID/maps in the plainest way."""
    rows = []
    for line in text.splitlines():
        span, perms, offset, device, rest = line.split(" ", 4)
        inode, _, path = rest.partition(" ")
        start, end = span.split("-")
        rows.append(
            Vma(
                int(start, 16),
                int(end, 16),
                perms,
                int(offset, 16),
                device,
                int(inode),
                path.strip(),
            )
        )
    return rows


@pytest.fixture
def sleeper() -> object:
    """Start a process that changes nothing about itself."""
    with subprocess.Popen(["sleep", "60"]) as child:
        support.until(lambda: Path(f"/proc/{child.pid}/exe").resolve().name == "sleep")
        support.until(lambda: "sleep" in Path(f"/proc/{child.pid}/wchan").read_text())
        yield child
        child.kill()


def test_the_mappings_are_those_the_kernel_prints(sleeper: subprocess.Popen[bytes]) -> None:
    """Every field of every line of another process's list, in order."""
    expected = by_hand(Path(f"/proc/{sleeper.pid}/maps").read_text())
    assert memfast.vmas(sleeper.pid) == expected
    assert len(expected) > 10


def test_paths_are_kept_as_the_kernel_prints_them(tmp_path: Path) -> None:
    r"""Spaces, backslashes, bytes that are no UTF-8, removed files and \012 for a newline."""
    cases = {
        b"two  words ": b"two  words ",
        b"back\\slash": b"back\\slash",
        b"new\nline": b"new\\012line",
        b"\xff\xfe": b"\xff\xfe",
        b"removed": b"removed (deleted)",
        b"3f00-4f00 rw-p 0 0:0 1 x": b"3f00-4f00 rw-p 0 0:0 1 x",
    }
    for plain, printed in cases.items():
        file = os.fsencode(tmp_path) + b"/" + plain
        with open(file, "wb") as made:
            made.write(bytes(3 * PAGE))
        inode, device = os.stat(file).st_ino, os.stat(file).st_dev
        with memfast.MemoryMap.file(file, offset=PAGE):
            if plain == b"removed":
                os.unlink(file)
            found = [vma for vma in memfast.vmas() if vma.inode == inode]
            assert [os.fsencode(vma.path) for vma in found] == [
                os.fsencode(tmp_path) + b"/" + printed
            ]
            vma = found[0]
            assert (vma.end - vma.start, vma.perms, vma.offset) == (2 * PAGE, "r--s", PAGE)
            major, minor = (int(part, 16) for part in vma.device.split(":"))
            # Some file systems (btrfs, overlayfs) show stat(2) another device than this.
            assert os.makedev(major, minor) == device or major == 0


def test_thousands_of_mappings_are_all_listed() -> None:
    """A list far longer than one read of the file is whole, sorted and without overlap."""
    protections = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)  # else they would merge
    maps = [mmap.mmap(-1, PAGE, prot=protections[i % 2]) for i in range(5000)]
    found = memfast.vmas()
    assert len(found) >= 5000
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert sum(vma.end - vma.start == PAGE for vma in found) >= 5000 - 2
    for made in maps:
        made.close()


def test_our_own_list_is_the_default() -> None:
    """None and our own pid mean this process."""
    own = {(vma.start, vma.path) for vma in memfast.vmas() if vma.path.startswith("/")}
    assert own == {(v.start, v.path) for v in memfast.vmas(os.getpid()) if v.path.startswith("/")}
    assert any("python" in path or "_core" in path for _, path in own)


def test_kernel_threads_and_zombies_have_no_mappings() -> None:
    """Where there is no memory the list is empty, not an error."""
    threads = [p.pid for p in psutil.process_iter() if p.pid != 2 and p.ppid() == 2][:1]
    with subprocess.Popen(["true"]) as child:
        support.until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        for pid in (child.pid, *threads):
            try:
                assert memfast.vmas(pid) == []
            except memfast.AccessError:
                assert pid != child.pid or os.geteuid() != 0
        assert memfast.faults(child.pid).minor > 0


@pytest.mark.parametrize("call", [memfast.vmas, memfast.faults])
def test_a_process_that_is_not_there(call: object) -> None:
    """A pid that nobody has is ProcessLookupError, a negative one ValueError, a text TypeError."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    for pid in (child.pid, 0, 1 << 22, 1 << 70):
        with pytest.raises(ProcessLookupError):
            call(pid)  # type: ignore[operator]
    with pytest.raises(ValueError, match="pid -1"):
        call(-1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        call("1")  # type: ignore[operator]


@support.need_root
def test_another_user_s_mappings_name_the_rule() -> None:
    """Who may not trace a process is told so; its faults are everybody's to read."""
    pid = os.getpid()

    def other() -> None:
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(memfast.AccessError, match="PTRACE_MODE_READ"):
            memfast.vmas(pid)
        assert memfast.faults(pid).minor > 0

    with support.forked(other) as child:
        assert support.exit_status(child) == 0


@support.need_root
def test_without_proc_the_reason_is_said() -> None:
    """Where /proc is not mounted the error says that, and not that the process is gone."""
    code = """
import memfast
memfast.vmas, memfast.faults
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
for call in (lambda: memfast.vmas(), lambda: memfast.faults(1)):
    try:
        call()
    except memfast.NotSupportedError as error:
        print("not mounted" in str(error))
print(memfast.faults().minor > 0)
"""
    assert support.in_namespace("m", code).split() == ["True"] * 3


def test_touching_memory_counts_as_minor_faults() -> None:
    """64 first touches of a memory map are 64 minor faults, in every way of asking."""
    with memfast.MemoryMap.create(64 * PAGE) as made:
        made.advise("dontneed")
        before = memfast.faults()
        for page in range(64):
            made.buf[page * PAGE] = 1
        after = memfast.faults()
        assert after.minor - before.minor >= 64
        assert after.major - before.major <= 1
        assert memfast.faults(os.getpid()).minor >= after.minor


def test_a_name_full_of_parentheses_does_not_shift_the_figures() -> None:
    """The command name in /proc/PID/stat may hold anything; the counts are those behind it."""
    code = """
import sys
open("/proc/self/comm", "w").write("a) R 1 1 (b) 9")
print(open("/proc/self/stat").read().rpartition(")")[2].split()[7], flush=True)
sys.stdin.read()
"""
    with support.python_child(code) as child:
        assert child.stdout is not None
        said = int(child.stdout.readline())
        assert said <= memfast.faults(child.pid).minor < said + 1000
        assert sys.maxsize > memfast.faults(child.pid).major >= 0
