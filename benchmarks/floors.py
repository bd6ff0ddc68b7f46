"""The physical floor, from floors.c."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("floors.c")


@functools.cache
def _program() -> str:
    folder = tempfile.mkdtemp(prefix="memfast-floors-")
    target = os.path.join(folder, "floors")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-std=gnu11", "-O2", str(SOURCE), "-o", target], check=True)
    return target


def _answer(*words: object) -> str:
    command = [_program(), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _ask(*words: object) -> float:
    return float(_answer(*words))


def line_round_trip_ns(count: int) -> float:
    """Two processes, two cores, one cache line there and back."""
    return _ask("line", count)


def futex_round_trip_ns(count: int, pause_us: int) -> float:
    """The same, both asleep in futex(2) whenever they wait; *pause_us* between rounds."""
    return _ask("futex", count, pause_us)


def memcpy_bytes_per_second(size_bytes: int, count: int) -> float:
    """One core, warm buffers."""
    return _ask("memcpy", size_bytes, count)


class Call(NamedTuple):
    """What one call costs in C."""

    min_ns: float
    median_ns: float


def _call(*words: object) -> Call:
    return Call(*map(float, _answer(*words).split()))


def sysinfo() -> Call:
    """sysinfo(2)."""
    return _call("sysinfo", 300)


def pread(path: str) -> Call:
    """pread(2) of a file that is open."""
    return _call("pread", path, 300)


def read(path: str) -> Call:
    """Open, read to the end in 64 KiB buffers, close."""
    return _call("read", path, 60)
