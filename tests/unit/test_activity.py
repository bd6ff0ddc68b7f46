"""CPU time, disks, slab caches and command lines are what /proc and psutil say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest
import support

from memfast import stats

SECTOR = 512  # bytes of a sector


@pytest.fixture(scope="module", autouse=True)
def what_stays_open() -> None:
    """Open the files of /proc that a process keeps, so that no test is blamed for it."""
    stats.activity()
    stats.disks()


def test_activity_agrees_with_the_kernel() -> None:
    """Each figure of /proc/stat stands between the same figure before and after."""

    def read() -> dict[str, list[str]]:
        lines = Path("/proc/stat").read_text().splitlines()
        return {line.split()[0]: line.split()[1:] for line in lines}

    before, now, after = read(), stats.activity(), read()
    for old, new, last in zip(before["cpu"], now.cpu, after["cpu"], strict=True):
        assert int(old) - 100 <= new <= int(last) + 100  # idle runs back at times
    for key, number in (
        ("ctxt", now.context_switches),
        ("intr", now.interrupts),
        ("processes", now.forks),
    ):
        assert int(before[key][0]) <= number <= int(after[key][0])
    assert now.boot_time == int(after["btime"][0])
    assert now.running >= 1


@support.need_root
def test_a_stat_of_an_old_kernel_is_read(tmp_path: Path) -> None:
    """Four figures of CPU time, as Linux 2.4 had them: the others are 0; nonsense is an error."""
    path = tmp_path / "stat"
    mount = f"mount --bind {path} /proc/stat"
    code = "from memfast import stats; print(stats.activity())"
    path.write_text("cpu  1 2 3 4\nctxt 5\n")
    found = support.in_namespace("m", code, before=mount)
    assert "user=1, nice=2, system=3, idle=4, iowait=0" in found
    assert "interrupts=0, context_switches=5" in found
    path.write_text("nonsense\n")
    with pytest.raises(AssertionError, match="does not begin with its line cpu"):
        support.in_namespace("m", code, before=mount)


def test_disks_are_those_of_psutil() -> None:
    """Names and what was read and written, which only grows."""
    before = psutil.disk_io_counters(perdisk=True, nowrap=False)
    found = {disk.name: disk for disk in stats.disks()}
    after = psutil.disk_io_counters(perdisk=True, nowrap=False)
    assert set(before) <= set(found)
    for name, counted in before.items():
        disk, last = found[name], after[name]
        assert counted.read_count <= disk.reads <= last.read_count
        assert counted.write_bytes <= disk.sectors_written * SECTOR <= last.write_bytes
    for name, disk in found.items():
        assert disk.partition == (not Path("/sys/block", name.replace("/", "!")).exists())


@support.need_root
def test_slabs_are_the_kernels() -> None:
    """All caches of /proc/slabinfo, by name, with the sizes they have there."""
    lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    rows = {line.split()[0]: line.split() for line in lines}
    found = stats.slabs()
    assert [slab.name for slab in found] == sorted(rows)
    for slab in found:
        size, per_slab, pages = (int(word) for word in rows[slab.name][3:6])
        assert (slab.object_size, slab.objects_per_slab) == (size, per_slab)
        assert slab.pages_per_slab == pages


def test_a_command_line_is_told_as_it_was_given() -> None:
    """Empty arguments, blanks and bytes that are no UTF-8 included."""
    with subprocess.Popen(["sleep", "100"]) as child:
        expected = stats.Command("sleep", ("sleep", "100"), zombie=False)
        support.until(lambda: stats.command(child.pid) == expected)
        child.kill()
    odd = ["sh", "-c", "read line", "", "two words", "", os.fsdecode(b"\xff")]
    with subprocess.Popen(odd, stdin=subprocess.PIPE) as child:
        support.until(lambda: stats.command(child.pid).arguments == tuple(odd))
        child.kill()
    assert stats.command().arguments == tuple(psutil.Process().cmdline())


def test_a_zombie_and_a_process_that_is_gone() -> None:
    """A zombie has a name only; who is gone is a ProcessLookupError; a negative id is refused."""
    with support.forked(lambda: None) as child:
        support.until(lambda: stats.command(child).zombie)
        assert stats.command(child).arguments == ()
    with pytest.raises(ProcessLookupError):
        stats.command(child)
    with pytest.raises(ValueError, match="positive"):
        stats.command(-1)
