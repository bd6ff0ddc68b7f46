"""The reads of performance.md: pytest-benchmark runs them, this says what is owed and prints."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("test_reads.py")
FLOOR = "floor"


class Cost(NamedTuple):
    """What one call costs, in nanoseconds."""

    min_ns: float
    median_ns: float


class Group:
    """One read: its contenders, and what is owed by ours, the first of them."""

    def __init__(self, name: str, costs: dict[str, Cost]) -> None:
        self.name = name
        self.costs = costs

    def ours(self) -> str:
        return next(name for name in self.costs if name.startswith("memfast"))

    def over(self, other: str) -> float:
        """How many times the other's median ours is; the quickest runs where that is the floor."""
        mine, theirs = self.costs[self.ours()], self.costs[other]
        if other == FLOOR:
            return mine.min_ns / theirs.min_ns
        return mine.median_ns / theirs.median_ns

    def under(self, other: str) -> float:
        return 1 / self.over(other)

    def print(self) -> None:
        gate, _ = GATES.get(self.name, ("", None))
        verdict = {True: ": holds", False: ": MISSED", None: ""}[self.holds()]
        print(f"\n{self.name}" + (f"\n  owed: {gate}{verdict}" if gate else ""))
        for name, cost in sorted(self.costs.items(), key=lambda item: item[1].median_ns):
            low, middle = cost.min_ns / 1e3, cost.median_ns / 1e3
            line = f"  {name:24} {low:10.2f} us min {middle:10.2f} us median"
            if name != self.ours():
                line += f"  memfast is {self.over(name):.2f} x"
            print(line)

    def holds(self) -> bool | None:
        if self.name not in GATES:
            return None
        try:
            return GATES[self.name][1](self)
        except KeyError:
            return None


PSUTIL = "psutil.virtual_memory"
GATES: dict[str, tuple[str, Callable[[Group], bool]]] = {
    "sysinfo": (
        "<= 1.6 x the call in C, 30 x as fast as psutil.virtual_memory",
        lambda of: of.over(FLOOR) <= 1.6 and of.under(PSUTIL) >= 30,
    ),
    "meminfo": (
        "<= 1.3 x the bare pread, 4.5 x as fast as psutil.virtual_memory",
        lambda of: of.over(FLOOR) <= 1.3 and of.under(PSUTIL) >= 4.5,
    ),
    "virtual_memory": (
        "<= 1.3 x the bare pread, 4 x as fast as psutil",
        lambda of: of.over(FLOOR) <= 1.3 and of.under(PSUTIL) >= 4,
    ),
    "rss": (
        "<= 1.4 x the bare pread, 7 x as fast as psutil memory_info",
        lambda of: of.over(FLOOR) <= 1.4 and of.under("psutil memory_info") >= 7,
    ),
    "maps, 5,000 mappings": ("<= 2 x the bare read", lambda of: of.over(FLOOR) <= 2),
    "smaps, 5,000 mappings": ("<= 1.5 x the bare read", lambda of: of.over(FLOOR) <= 1.5),
    "segments, 4,000 of them": (
        "4 x as fast as a parse in Python",
        lambda of: of.under("python") >= 4,
    ),
    "segments with rss, 4,000 of them": (
        "<= 1.5 x the bare read",
        lambda of: of.over(FLOOR) <= 1.5,
    ),
    "import memfast": (
        "<= 10 ms over bare Python",
        lambda of: of.costs["memfast"].median_ns - of.costs["bare Python"].median_ns <= 10e6,
    ),
}


def imports(rounds: int) -> Group:
    """Start interpreters in turn: bare, with memfast, with its first figure, with psutil."""
    codes = {
        "bare Python": "",
        "memfast": "import memfast",
        "memfast, first figures": "import memfast; memfast.virtual_memory()",
        "psutil, first figures": "import psutil; psutil.virtual_memory()",
    }
    samples: dict[str, list[int]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            begin = time.perf_counter_ns()
            subprocess.run([sys.executable, "-c", code], check=True)
            samples[name].append(time.perf_counter_ns() - begin)
    costs = {name: Cost(min(ns), statistics.median(ns)) for name, ns in samples.items()}
    return Group("import memfast", costs)


def run(word: str, *, quick: bool) -> list[Group]:
    """Run the reads whose group has this word in it, and return them in order."""
    groups: dict[str, dict[str, Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="memfast-bench-") as folder:
        report = os.path.join(folder, "report.json")
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull),
            *(f"--rootdir={FILE.parent}", "--import-mode=append"),  # the wheel, not the tree
            *(f"--benchmark-json={report}", "--benchmark-disable-gc"),
            *("--benchmark-columns=min", "-k", word or "test_read", str(FILE)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 5:
            return []  # no read has this word
        if done.returncode:
            raise SystemExit(f"{FILE} failed:\n{done.stdout[-3000:]}\n{done.stderr}")
        for entry in json.loads(Path(report).read_text())["benchmarks"]:
            info, stats = entry["extra_info"], entry["stats"]
            if info.get("floor"):
                cost = Cost(info["min_ns"], info["median_ns"])
            else:
                scale = 1e9 / info["calls"]
                cost = Cost(stats["min"] * scale, stats["median"] * scale)
            groups.setdefault(entry["group"], {})[entry["name"]] = cost
    found = [
        Group(name, costs)
        for name, costs in groups.items()
        if any(ours.startswith("memfast") for ours in costs)  # the word may be a contender's alone
    ]
    if word in "import memfast":
        found.append(imports(5 if quick else 20))
    return found
