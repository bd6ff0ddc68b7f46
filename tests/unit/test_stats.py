"""memfast.stats: one door to all figures; what binds this process; the resident size."""

from __future__ import annotations

import inspect
import json
import mmap
import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import support

import memfast
from memfast import stats

MIB = 1 << 20


def statm(pid: int | str) -> list[int]:
    """Return the columns of statm, in bytes."""
    return [int(word) * mmap.PAGESIZE for word in Path(f"/proc/{pid}/statm").read_text().split()]


# ---- the facade ----


def test_everything_is_behind_one_door() -> None:
    """Each public name is there; those at top level are the same objects; maps is vmas."""
    for name in stats.__all__:
        assert getattr(stats, name) is not None
    for name in ("sysinfo", "meminfo", "virtual_memory", "swap_memory", "vmstat", "pressure"):
        assert getattr(memfast, name) is getattr(stats, name)
    assert stats.maps is stats.vmas is memfast.vmas


def test_every_reading_names_its_source() -> None:
    """A function's docstring says which file or call of the kernel it asks."""
    for name in stats.__all__:
        call = getattr(stats, name)
        if inspect.isroutine(call):
            text = inspect.getdoc(call) or ""
            assert "Source:" in text, name


def test_submodules_hide_no_function() -> None:
    """Importing any module of memfast leaves its public functions callable."""
    code = """
import importlib, pkgutil
import memfast
for module in pkgutil.iter_modules(memfast.__path__):
    if module.name != "__main__":
        importlib.import_module("memfast." + module.name)
for name in "sysinfo", "meminfo", "virtual_memory", "swap_memory", "vmstat", "pressure", "vmas":
    assert callable(getattr(memfast, name)), name
for name in memfast.stats.__all__:
    assert callable(getattr(memfast.stats, name)), name
"""
    support.run_python(code)


# ---- the resident size ----


def test_rss_is_the_kernels_number() -> None:
    """Of a process that stands still: exactly, and as process() and psutil say it."""
    with subprocess.Popen(["sleep", "60"]) as child:
        support.until(lambda: "sleep" in Path(f"/proc/{child.pid}/wchan").read_text())
        assert stats.rss(child.pid) == statm(child.pid)[1] == stats.process(child.pid).rss
        assert stats.rss(child.pid) == psutil.Process(child.pid).memory_info().rss
        child.kill()


def test_rss_follows_what_this_process_touches() -> None:
    """64 MiB touched are 64 MiB more, given back they are gone, to within a few pages."""
    slack = 2 * MIB  # what the interpreter itself takes meanwhile, and the kernel's batches
    before = stats.rss()
    with mmap.mmap(-1, 64 * MIB) as pages:
        for page in range(0, 64 * MIB, mmap.PAGESIZE):
            pages[page] = 1
        assert abs(stats.rss() - before - 64 * MIB) < slack
        assert abs(stats.rss() - stats.rss(os.getpid())) < slack
    assert abs(stats.rss() - before) < slack


def test_a_forked_child_has_a_resident_size_of_its_own() -> None:
    """The descriptor that the parent keeps is not asked."""
    stats.rss()
    with mmap.mmap(-1, 64 * MIB) as pages:

        def child() -> None:
            for page in range(0, 64 * MIB, mmap.PAGESIZE):
                pages[page] = 1
            assert abs(stats.rss() - statm("self")[1]) < MIB
            assert stats.rss() > 64 * MIB

        with support.forked(child) as pid:
            assert support.exit_status(pid) == 0


def test_rss_of_who_has_no_memory_and_of_nobody() -> None:
    """0 for a kernel thread and a zombie; ProcessLookupError for who is gone; bad pids refused."""
    assert stats.rss(2) == 0
    with subprocess.Popen(["true"]) as child:
        support.until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert stats.rss(child.pid) == 0
    with pytest.raises(ProcessLookupError, match=f"process {child.pid}: it is gone"):
        stats.rss(child.pid)
    with pytest.raises(ProcessLookupError):
        stats.rss(1 << 30)
    with pytest.raises(ValueError, match="a process id is positive"):
        stats.rss(-1)
    with pytest.raises(TypeError):
        stats.rss("1")  # type: ignore[arg-type]


def test_without_proc_the_reason_is_said() -> None:
    """Not that the process is gone."""
    code = """
import memfast
for pid in None, 1:
    try:
        memfast.stats.rss(pid)
    except memfast.NotSupportedError as error:
        assert "/proc is not mounted" in str(error), error
    else:
        raise SystemExit("it said something")
"""
    support.in_namespace("m", code, before="mount -t tmpfs none /proc")


# ---- what binds ----


def test_without_a_limit_it_is_the_machine() -> None:
    """Total and available are those of free(), every term is told, and used is the rest."""
    for _ in range(50):
        host = stats.free().mem
        found = stats.effective()
        if stats.free().mem == host:
            break
    if found.limit is not None:
        pytest.skip(f"this machine's cgroup has a limit of {found.limit} bytes")
    assert (found.total, found.available) == (host.total, host.available)
    assert (found.host_total, found.host_available) == (host.total, host.available)
    assert found.used == found.total - found.available
    assert found.source == "host"
    assert not found.lxcfs


def test_a_cgroup_binds_who_is_in_it(nested_cgroups: tuple[Path, Path]) -> None:
    """64 MiB in a group above ours: total is 64 MiB, available what all of it leaves."""
    _, inner = nested_cgroups

    def take() -> None:
        (inner / "cgroup.procs").write_text("0")
        taken = bytearray(16 * MIB)
        taken[::4096] = b"x" * len(taken[::4096])
        time.sleep(60)

    with support.forked(take) as pid:
        support.until(lambda: stats.cgroup(pid).path.endswith("/inner"))
        support.until(lambda: stats.effective(pid).used > 16 * MIB)
        found = stats.effective(pid)
        assert found.total == found.limit == 64 * MIB
        assert found.source == "cgroup"
        assert found.available == found.cgroup.available
        assert 16 * MIB < found.used == found.total - found.available < 64 * MIB
        assert found.host_total == memfast.sysinfo().totalram
    assert stats.effective().total != 64 * MIB


def test_lxcfs_is_told(tmp_path: Path) -> None:
    """A /proc/meminfo with another total than the kernel's: its figures hold, and it is said."""
    fixture = tmp_path / "meminfo"
    fixture.write_text("MemTotal: 1024000 kB\nMemFree: 512000 kB\nMemAvailable: 600000 kB\n")
    code = """
import json
from memfast import stats
found = stats.effective()
print(json.dumps([found.lxcfs, found.total, found.available, found.host_total]))
"""
    answer = support.in_namespace("m", code, before=f"mount --bind {fixture} /proc/meminfo")
    assert json.loads(answer) == [True, 1024000 * 1024, 600000 * 1024, 1024000 * 1024]


def test_effective_asks_after_processes() -> None:
    """Who is gone is ProcessLookupError."""
    with subprocess.Popen(["true"]) as child:
        pass
    with pytest.raises(ProcessLookupError):
        stats.effective(child.pid)
