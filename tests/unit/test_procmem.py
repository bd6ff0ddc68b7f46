"""How much memory a process has, and its faults: equal to /proc and psutil, whole or not at all."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import support

import memfast
from memfast import stats

PAGE = mmap.PAGESIZE
CALLS = [stats.process, stats.process_exact, memfast.faults]


def keyed(path: str) -> dict[str, int]:
    """Read the lines with kB of a file of /proc, in bytes."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[-1:] == ["kB"]}


def still(call: object, pid: int, other: object) -> tuple[object, object]:
    """Return what both say of a process that did not change meanwhile."""
    while True:
        before, answer = call(pid), other()  # type: ignore[operator]
        if before == call(pid):  # type: ignore[operator]
            return before, answer


@pytest.fixture
def sleeper() -> object:
    """Start a process that changes nothing about itself."""
    with subprocess.Popen(["sleep", "60"]) as child:
        support.until(lambda: Path(f"/proc/{child.pid}/exe").resolve().name == "sleep")
        support.until(lambda: "sleep" in Path(f"/proc/{child.pid}/wchan").read_text())
        yield child
        child.kill()


# ---- process() ----


def test_process_is_what_statm_and_status_say(sleeper: subprocess.Popen[bytes]) -> None:
    """Every field of another process is the kernel's line for it, in bytes."""
    pid = sleeper.pid
    found, (statm, status) = still(
        stats.process,
        pid,
        lambda: (Path(f"/proc/{pid}/statm").read_text().split(), keyed(f"/proc/{pid}/status")),
    )
    vms, rss, shared, text, _, data, _ = (int(column) * PAGE for column in statm)
    assert found == stats.ProcessMemory(
        rss=rss,
        vms=vms,
        shared=shared,
        text=text,
        data=data,
        peak_rss=status["VmHWM"],
        peak_vms=status["VmPeak"],
        swap=status["VmSwap"],
        anon=status["RssAnon"],
        file=status["RssFile"],
        shmem=status["RssShmem"],
        locked=status["VmLck"],
        pinned=status["VmPin"],
        page_tables=status["VmPTE"],
        stack=status["VmStk"],
        hugetlb=status.get("HugetlbPages", 0),
    )
    assert found.rss == found.anon + found.file + found.shmem > 0


def test_process_is_what_psutil_says(sleeper: subprocess.Popen[bytes]) -> None:
    """psutil's memory_info() has the same rss, vms, shared, text and data."""
    ours, theirs = still(stats.process, sleeper.pid, psutil.Process(sleeper.pid).memory_info)
    for field in ("rss", "vms", "shared", "text", "data"):
        assert getattr(theirs, field) == getattr(ours, field), field


def test_each_kind_of_memory_shows_in_its_field() -> None:
    """Anonymous, shared and file pages, locked ones, and a peak that stays when they are gone."""
    size = 512 * PAGE
    before = stats.process()
    with (
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as anon,
        mmap.mmap(-1, size) as shared,
    ):
        anon[:] = shared[:] = b"1" * size
        during = stats.process()
    after = stats.process()
    assert during.anon - before.anon >= size
    assert during.shmem - before.shmem == size
    assert during.shared - before.shared >= size
    assert during.rss - before.rss >= 2 * size
    assert during.vms - before.vms >= 2 * size
    assert after.rss <= during.rss - size
    assert after.peak_rss >= during.rss
    assert after.peak_vms >= during.vms


def test_rss_is_statm_s_for_any_page_size() -> None:
    """The unit of statm is the page of sysconf(3), and of status the KiB."""
    found, statm = still(
        stats.process, os.getpid(), lambda: Path("/proc/self/statm").read_text().split()
    )
    assert found.rss == int(statm[1]) * PAGE
    assert found.rss == found.anon + found.file + found.shmem


def test_a_process_that_ends_is_never_half_a_record(rng: random.Random) -> None:
    """Killed at any time, a process has all of its figures, none of them, or is not there."""
    whole = 0
    for _ in range(40):
        with support.forked(lambda: time.sleep(30)) as pid:
            killer = f"sleep {rng.uniform(0, 0.003)}; kill -KILL {pid}"
            with subprocess.Popen(["sh", "-c", killer]):
                while any(exact := stats.process_exact(pid)):
                    assert min(exact.rss, exact.uss) > 0
                    found = stats.process(pid)
                    assert bool(found.vms) == bool(found.peak_vms) == bool(found.stack)
                    whole += any(found)
            assert not any(stats.process(pid))
    assert whole > 40


# ---- process_exact() ----


def test_exact_is_what_smaps_rollup_says(sleeper: subprocess.Popen[bytes]) -> None:
    """Every line of smaps_rollup is a field; uss is the sum of the private ones."""
    pid = sleeper.pid
    found, lines = still(stats.process_exact, pid, lambda: keyed(f"/proc/{pid}/smaps_rollup"))
    names = {"AnonHugePages": "anon_huge_pages", "SwapPss": "swap_pss"}
    names |= {"ShmemPmdMapped": "shmem_pmd_mapped", "FilePmdMapped": "file_pmd_mapped"}
    expected = {names.get(key, key.lower()): value for key, value in lines.items()}
    expected["uss"] = sum(value for key, value in lines.items() if key.startswith("Private_"))
    known = {key: value for key, value in expected.items() if key in stats.ProcessExact._fields}
    assert found._asdict() == dict.fromkeys(stats.ProcessExact._fields, 0) | known
    assert found.uss > 0
    assert len(known) > 15


def test_exact_is_what_psutil_says(sleeper: subprocess.Popen[bytes]) -> None:
    """psutil's memory_full_info() has the same uss, pss and swap."""
    ours, theirs = still(
        stats.process_exact, sleeper.pid, psutil.Process(sleeper.pid).memory_full_info
    )
    assert (ours.uss, ours.pss, ours.swap) == (theirs.uss, theirs.pss, theirs.swap)


def test_exact_is_the_sum_of_smaps(sleeper: subprocess.Popen[bytes]) -> None:
    """Field by field the mappings add up to it; smaps loses up to a KiB of pss each."""
    exact, rows = still(stats.process_exact, sleeper.pid, lambda: stats.smaps(sleeper.pid))
    for field in set(exact._fields) & set(rows[0]._fields):
        total = sum(getattr(row, field) for row in rows)
        slack = 1024 * len(rows) if "pss" in field or field == "locked" else 0
        assert total <= getattr(exact, field) <= total + slack, field


def test_pages_shared_with_a_child_are_not_unique() -> None:
    """A forked child's untouched pages count half in pss and not at all in uss."""
    size = 2048 * PAGE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        made.madvise(mmap.MADV_NOHUGEPAGE)
        made[:] = b"1" * size
        alone = stats.process_exact()
        with support.forked(lambda: time.sleep(30)):
            both = stats.process_exact()
        assert alone.uss - both.uss >= size
        assert alone.pss - both.pss >= size // 2 - 64 * PAGE
        assert both.rss >= alone.rss - 64 * PAGE


# ---- a /proc of our own making ----

FAKE = r"""
import os, subprocess, sys
import memfast.stats as stats
stats.process, stats.smaps
subprocess.run(["mount", "-t", "tmpfs", "fake", "/proc"], check=True)
def put(pid, **files):
    os.makedirs(f"/proc/{pid}", exist_ok=True)
    for name, text in files.items():
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(text)
put("self", stat="1 (a) S 0", statm="0 0 0 0 0 0 0\n", status="")
"""


@support.need_root
def test_figures_of_other_kernels() -> None:
    """No smaps_rollup: smaps is added up. No smaps: NotSupportedError. Missing lines are 0."""
    code = (
        FAKE
        + r"""
head = "1000-2000 rw-p 00000000 00:00 0 \n"
put(7, stat="7 (a) S 0", statm="100 20 5 2 0 9 0\n",
    status="Groups:\t" + "1000 " * 20000 + "\nVmSize:\t     400 kB\nVmHWM:\t      40 kB\n",
    maps=head * 2,
    smaps=(head + "Rss:  8 kB\nPss:  4 kB\nPrivate_Dirty:  3 kB\nPrivate_Hugetlb: 2 kB\n") * 2)
found = stats.process(7)
page = os.sysconf("SC_PAGESIZE")
print(found.rss == 20 * page, found.shared == 5 * page, found.data == 9 * page)
print(found.peak_rss == found.rss, found.peak_vms == found.vms, found.swap == found.stack == 0)
exact = stats.process_exact(7)
print((exact.rss, exact.pss, exact.uss, exact.pss_anon) == (16384, 8192, 10240, 0))
os.unlink("/proc/7/smaps")
for call in (stats.process_exact, stats.smaps):
    try:
        call(7)
    except stats.memfast_errors.NotSupportedError as error:
        print("CONFIG_PROC_PAGE_MONITOR" in str(error), error.errno is not None)
put(8, stat="8 (a) S 0", statm="100 20 5", status="")
try:
    stats.process(8)
except OSError as error:
    print(type(error) is OSError, "process 8" in str(error))
"""
    ).replace("stats.memfast_errors", "__import__('memfast')")
    assert support.in_namespace("m", code).split() == ["True"] * 13


@support.need_root
def test_a_hidden_process_is_not_there() -> None:
    """Where /proc hides others' processes (hidepid=2), the error says that it may be hidden."""
    code = """
import os, memfast, memfast.stats as stats
os.setgroups([]), os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)
for call in (stats.process, stats.process_exact, stats.vmas, stats.faults):
    try:
        call(1)
    except ProcessLookupError as error:
        print("hidepid" in str(error), error.errno is not None)
"""
    mount = "mount -t proc -o hidepid=2 proc /proc"
    assert support.in_namespace("m", code, before=mount).split() == ["True"] * 8


# ---- who may ask, and of whom ----


def test_no_pid_is_this_process() -> None:
    """None and our own pid mean this process."""
    assert abs(stats.process().rss - stats.process(os.getpid()).rss) <= 64 * PAGE
    assert abs(stats.process_exact().rss - stats.process_exact(os.getpid()).rss) <= 64 * PAGE
    assert stats.process().stack > 0


def test_kernel_threads_and_zombies_have_no_memory() -> None:
    """They live, so it is no error: every figure is 0. Their faults are counted all the same."""
    threads = [p.pid for p in psutil.process_iter() if p.pid != 2 and p.ppid() == 2][:1]
    with subprocess.Popen(["true"]) as child:
        support.until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        for pid in (child.pid, *threads):
            assert not any(stats.process(pid))
            try:
                assert not any(stats.process_exact(pid))
            except memfast.AccessError:
                assert pid != child.pid or os.geteuid() != 0
        assert memfast.faults(child.pid).minor > 0


@pytest.mark.parametrize("call", CALLS)
def test_a_process_that_is_not_there(call: object) -> None:
    """A pid that nobody has is ProcessLookupError, a negative one ValueError, a text TypeError."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    for pid in (child.pid, 0, 1 << 22, 1 << 70):
        with pytest.raises(ProcessLookupError) as caught:
            call(pid)  # type: ignore[operator]
        assert caught.value.errno is not None
    with pytest.raises(ValueError, match="pid -1"):
        call(-1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        call("1")  # type: ignore[operator]


@support.need_root
def test_what_another_user_may_know() -> None:
    """Counted figures and faults are everybody's; the exact ones name the rule."""
    pid = os.getpid()

    def other() -> None:
        os.setresuid(65534, 65534, 65534)
        for target in (pid, 1):
            with pytest.raises(memfast.AccessError, match="PTRACE_MODE_READ"):
                stats.process_exact(target)
            assert stats.process(target).rss > 0
            assert memfast.faults(target).minor > 0

    with support.forked(other) as child:
        assert support.exit_status(child) == 0


@support.need_root
def test_without_proc_the_reason_is_said() -> None:
    """Where /proc is not mounted the error says that, and not that the process is gone."""
    code = """
import memfast.stats as stats
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
import memfast
for call in (stats.process, stats.process_exact, lambda: stats.faults(1)):
    try:
        call()
    except memfast.NotSupportedError as error:
        print("not mounted" in str(error), error.errno is not None)
print(stats.faults().minor > 0)
"""
    assert support.in_namespace("m", code).split() == ["True"] * 7


# ---- faults() ----


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
