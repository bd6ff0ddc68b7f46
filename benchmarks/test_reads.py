"""
Reads of memory figures, each beside psutil, a plain parse in Python, and the floor in C.

Run by `make bench`, or alone: pytest benchmarks/test_reads.py. One round is a
loop over many calls, so that the runner's own cost does not count. What is
owed stands in benchmarks/reads.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import psutil
import pytest

import memfast
from benchmarks import floors
from memfast import stats, sysv

MAPPINGS = 5000

SEGMENTS = 4000

MAPPED = f"""
import mmap, sys
pages = [mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | (mmap.PROT_WRITE if i % 2 else 0))
         for i in range({MAPPINGS})]
print("mapped", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def mapped() -> Iterator[int]:
    """Start a process with 5,000 mappings; its pid."""
    command = [sys.executable, "-c", MAPPED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


@pytest.fixture(scope="module")
def crowded() -> Iterator[None]:
    """Give this process an IPC namespace with 4,000 segments, and take it back."""
    libc = ctypes.CDLL(None)
    libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    home = os.open("/proc/self/ns/ipc", os.O_RDONLY)
    try:
        if libc.unshare(0x08000000) != 0:  # CLONE_NEWIPC
            pytest.skip("needs root, for an IPC namespace of its own")
        made = [libc.shmget(key + 1, 5000, 0o1644) for key in range(SEGMENTS)]
        assert min(made) >= 0
        yield
        libc.setns(home, 0)
    finally:
        os.close(home)


def parse_segments() -> list[dict[str, int]]:
    """Parse all segments as everybody does."""
    with open("/proc/sysvipc/shm") as file:
        names = file.readline().split()
        return [dict(zip(names, map(int, line.split()), strict=True)) for line in file]


def parse(path: str) -> dict[str, int]:
    """Parse keys and numbers as everybody does."""
    table = {}
    with open(path) as file:
        for line in file:
            words = line.split()
            table[words[0].rstrip(":")] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return table


def parse_maps(pid: int) -> list[tuple[object, ...]]:
    """Parse a process's mappings as everybody does."""
    rows: list[tuple[object, ...]] = []
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            words = line.split(None, 5)
            start, end = words[0].split("-")
            path = words[5].rstrip("\n") if len(words) > 5 else ""
            rows.append(
                (
                    *(int(start, 16), int(end, 16), words[1], int(words[2], 16)),
                    *(words[3], int(words[4]), path),
                )
            )
    return rows


def parse_smaps(pid: int) -> list[dict[str, str]]:
    """Take a process's smaps apart into texts, which is the least one can do."""
    rows: list[dict[str, str]] = []
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            key, _, value = line.partition(":")
            if "-" in key.split(" ")[0]:
                rows.append({"": line})
            else:
                rows[-1][key] = value
    return rows


def plain_rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


this = psutil.Process()
Calls = dict[str, Callable[[], object]]

# group -> contender -> the call
READS: dict[str, Calls] = {
    "sysinfo": {
        "memfast.sysinfo": memfast.sysinfo,
        "psutil.virtual_memory": psutil.virtual_memory,
    },
    "meminfo": {
        "memfast.meminfo": memfast.meminfo,
        "memfast, all keys": lambda: dict(memfast.meminfo()),
        "memfast, MemAvailable": lambda: memfast.meminfo()["MemAvailable"],
        "psutil.virtual_memory": psutil.virtual_memory,
        "python": lambda: parse("/proc/meminfo"),
    },
    "virtual_memory": {
        "memfast.virtual_memory": memfast.virtual_memory,
        "memfast.stats.free": stats.free,
        "psutil.virtual_memory": psutil.virtual_memory,
    },
    "swap_memory": {
        "memfast.swap_memory": memfast.swap_memory,
        "psutil.swap_memory": psutil.swap_memory,
    },
    "vmstat": {
        "memfast.vmstat": memfast.vmstat,
        "memfast, all keys": lambda: dict(memfast.vmstat()),
        "python": lambda: parse("/proc/vmstat"),
    },
    "rss": {
        "memfast.stats.rss": stats.rss,
        "psutil memory_info": this.memory_info,
        "python": plain_rss,
    },
    "process": {
        "memfast.stats.process": stats.process,
        "psutil memory_info": this.memory_info,
    },
    "effective": {"memfast.stats.effective": stats.effective},
}

FLOORS: dict[str, Callable[[], floors.Call]] = {
    "sysinfo": floors.sysinfo,
    "meminfo": lambda: floors.pread("/proc/meminfo"),
    "virtual_memory": lambda: floors.pread("/proc/meminfo"),
    "vmstat": lambda: floors.pread("/proc/vmstat"),
    "rss": lambda: floors.pread("/proc/self/statm"),
}

OF_MAPPINGS: dict[str, dict[str, Callable[[int], object]]] = {
    "maps": {
        "memfast.stats.maps": stats.maps,
        "psutil memory_maps": lambda pid: psutil.Process(pid).memory_maps(grouped=False),
        "python": parse_maps,
    },
    "smaps": {
        "memfast.stats.smaps": stats.smaps,
        "psutil memory_maps": lambda pid: psutil.Process(pid).memory_maps(grouped=False),
        "python": parse_smaps,
    },
}


OF_SEGMENTS: dict[str, Calls] = {
    "segments": {"memfast.sysv.segments": sysv.segments, "python": parse_segments},
    "segments with rss": {
        "memfast.sysv.segments": lambda: sysv.segments(rss=True),
        "python": parse_segments,
    },
}


def measure(benchmark: Any, call: Callable[[], object], calls: int, rounds: int) -> None:
    """Time *rounds* loops of *calls*; the report divides."""

    def loop() -> None:
        for _ in repeat(None, calls):
            call()

    benchmark.extra_info["calls"] = calls
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {0})
    benchmark.pedantic(loop, rounds=rounds, warmup_rounds=2)


def record_floor(benchmark: Any, floor: floors.Call) -> None:
    benchmark.extra_info.update(floor=True, **floor._asdict())
    benchmark.pedantic(lambda: None, rounds=1)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group, calls in READS.items()
        for name in (*(["floor"] if group in FLOORS else []), *calls)
    ],
)
def test_read(benchmark: Any, group: str, name: str) -> None:
    """One contender of one group."""
    benchmark.group, benchmark.name = group, name
    if name == "floor":
        record_floor(benchmark, FLOORS[group]())
    else:
        measure(benchmark, READS[group][name], 200, 40)


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group, calls in OF_MAPPINGS.items() for name in ("floor", *calls)],
)
def test_read_of_5000_mappings(benchmark: Any, mapped: int, group: str, name: str) -> None:
    """One contender, reading about another process."""
    benchmark.group, benchmark.name = f"{group}, {MAPPINGS:,} mappings", name
    if name == "floor":
        record_floor(benchmark, floors.read(f"/proc/{mapped}/{group}"))
    else:
        measure(benchmark, lambda: OF_MAPPINGS[group][name](mapped), 1, 20)


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group, calls in OF_SEGMENTS.items() for name in ("floor", *calls)],
)
@pytest.mark.usefixtures("crowded")
def test_read_of_4000_segments(benchmark: Any, group: str, name: str) -> None:
    """One contender; the floor is a bare read of /proc/sysvipc/shm."""
    benchmark.group, benchmark.name = f"{group}, {SEGMENTS:,} of them", name
    if name == "floor":
        record_floor(benchmark, floors.read("/proc/sysvipc/shm"))
    else:
        measure(benchmark, OF_SEGMENTS[group][name], 1, 20)
