"""Creating a mapping: short of room, killed at a system call, failed by one, on older kernels."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import MemoryMap

if TYPE_CHECKING:
    from pathlib import Path


def file_of(name: str) -> Path:
    return support.NAMES / f"{name}.map"


@support.need_root
def test_a_full_dev_shm_is_an_error_and_not_a_signal() -> None:
    """Over the size of /dev/shm: NoSpaceError with the mount's figures, no SIGBUS, nothing left."""
    code = """
import memfast, os
for size in (1 << 21, (1 << 20) + 1):
    try:
        memfast.MemoryMap.create(size, name="big")
    except memfast.NoSpaceError as error:
        print("/dev/shm/memfast-0 has 1048576 bytes free of 1048576" in str(error))
print(os.listdir("/dev/shm/memfast-0"), os.statvfs("/dev/shm").f_bfree * 4096)
with memfast.MemoryMap.create(1 << 23) as memfd, memfast.MemoryMap.create(1 << 19, name="half"):
    memfd.buf[:] = bytes(1 << 23)
    open("/dev/shm/filler", "wb").write(bytes(1 << 19))
    half = memfast.MemoryMap.open("half")
    half.buf[:] = b"x" * (1 << 19)
    print(bytes(half.buf[-1:]))
"""
    said = support.in_namespace("m", code, before="mount -t tmpfs -o size=1m shm /dev/shm")
    assert said.split("\n")[:-1] == ["True", "True", "[] 1048576", "b'x'"]


@support.need_root
def test_what_the_dead_left_does_not_stand_in_the_way() -> None:
    """A stale map that fills /dev/shm is given back before its name is created again."""
    code = """
import memfast, os, signal
if os.fork() == 0:
    made = memfast.MemoryMap.create(700 << 10, name="a")
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
print(os.listdir("/dev/shm/memfast-0"))
print(memfast.MemoryMap.create(800 << 10, name="a").size)
"""
    said = support.in_namespace("m", code, before="mount -t tmpfs -o size=1m shm /dev/shm")
    assert said.splitlines() == ["['a.map']", str(800 << 10)]


CREATOR = """
import sys, memfast
memfast.MemoryMap
memfast.MemoryMap.create(1).close()
import os
try:
    made = memfast.MemoryMap.create(100, name=sys.argv[1])
except OSError as error:
    print(type(error).__name__, error.errno)
print(sorted(os.listdir("/proc/self/fd")) == ["0", "1", "2", "3"])
"""
STEPS = ["mkdir", "fchmod", "ftruncate", "fallocate", "linkat", "flock", "madvise"]


def traced(name: str, injection: str) -> tuple[int, str]:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={injection}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", CREATOR, name],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_system_call_the_name_is_absent_or_whole(name: str, step: str) -> None:
    """SIGKILL at the first, second, ... call of each kind: nothing half-made is ever visible."""
    seen = set()
    for number in range(1, 12):
        status, said = traced(name, f"{step}:signal=SIGKILL:when={number}")
        there = file_of(name).exists()
        seen.add((status, there))
        if there:
            assert file_of(name).stat().st_size == 100
            assert file_of(name).stat().st_mode & 0o777 == 0o600
            with pytest.raises(memfast.StaleHandleError):
                MemoryMap.open(name)
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
    assert (0, False) in seen, "more calls than were tried"


@pytest.mark.parametrize(
    ("step", "error", "kind"),
    [
        ("fallocate", "ENOSPC", "NoSpaceError"),
        ("linkat", "EPERM", "AccessError"),
        ("ftruncate", "EFBIG", "LimitError"),
        ("flock", "ENOLCK", "OSError"),
        ("fchmod", "EPERM", "AccessError"),
        ("mkdir", "ENOSPC", "NoSpaceError"),
    ],
)
def test_a_failed_system_call_is_an_error_and_leaves_nothing(
    name: str, step: str, error: str, kind: str
) -> None:
    """Each failing call in create() is an exception with its errno; no name, no descriptor."""
    status, said = traced(name, f"{step}:error={error}:when=2..20")
    if kind not in said:
        status, said = traced(name, f"{step}:error={error}")
    assert status == 0, said
    assert f"{kind} {getattr(errno, error)}" in said
    assert "True" in said
    assert not file_of(name).exists()


OLD_KERNEL = """
import memfast
made = memfast.MemoryMap.create(100000)
print(made.resident().pages - made.resident().resident, bytes(made.buf) == bytes(100000))
for advice in ("collapse", "populate_read"):
    try:
        made.advise(advice)
    except memfast.NotSupportedError as error:
        print(str(error).split("since ")[1].split(":")[0])
    except ValueError:
        pass  # known, but unfit for this mapping
"""


@pytest.mark.parametrize(
    ("injection", "expected"),
    [
        ("madvise:error=EINVAL:when=2+", ["0 True", "Linux 6.1 with", "Linux 5.14"]),
        ("memfd_create:error=EINVAL:when=1", ["0 True"]),
    ],
)
def test_an_older_kernel_is_served_too(injection: str, expected: list[str]) -> None:
    """Without MADV_POPULATE and MFD_NOEXEC_SEAL maps are made too; advice says since when."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={injection}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", OLD_KERNEL],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
