"""
Run the channel's rows of performance.md beside the peers that are installed.

Contenders run in turn, the whole set several times over, and the median of the
runs counts; a ratio is the median of the ratios of one turn. Every figure comes
from the installed package, through public constructors, with checked messages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import memfast
from benchmarks import floors, workloads
from benchmarks.transports import LANES, Lane, Memfast, MemfastInto, installed

Figures = dict[str, list[float]]  # contender -> one figure a turn
SMALL, LARGE = 1 << 16, 8 << 20  # capacities


def build_id() -> str:
    """Return the linker's build id of the extension that is timed."""
    from memfast import _fast

    notes = subprocess.run(
        ["readelf", "-n", str(_fast.__file__)], capture_output=True, text=True, check=False
    ).stdout
    return next((line.split()[-1] for line in notes.splitlines() if "Build ID" in line), "unknown")


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memfast": memfast.__version__,
        "build_id": build_id(),
        "date": time.strftime("%Y-%m-%d"),
    }


class Row:
    """One line of the table: how to measure each contender once, and what is owed."""

    def __init__(
        self,
        title: str,
        unit: str,
        gate: str,
        contenders: dict[str, Callable[[], float]],
        verdict: Callable[[Callable[[str], float], Callable[..., float]], bool],
    ) -> None:
        self.title = title
        self.unit = unit
        self.gate = gate
        self.contenders = contenders
        self.verdict = verdict
        self.figures: Figures = {name: [] for name in contenders}

    @property
    def smaller_wins(self) -> bool:
        return self.unit in ("us", "ms")

    def turn(self) -> None:
        for name, measure in self.contenders.items():
            self.figures[name].append(measure())

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def ratio(self, name: str, other: str) -> float:
        pairs = zip(self.figures[name], self.figures[other], strict=True)
        return statistics.median(one / two for one, two in pairs)

    def best_peer(self) -> str:
        peers = [name for name in self.figures if not name.startswith(("memfast", "floor"))]
        pick = min if self.smaller_wins else max
        return pick(peers, key=self.median)

    def holds(self) -> bool | None:
        try:
            return self.verdict(self.median, self.ratio_to)
        except (KeyError, ValueError):
            return None  # the peer it is measured against is not installed

    def ratio_to(self, other: str = "", name: str = "memfast") -> float:
        return self.ratio(name, other or self.best_peer())

    def print(self) -> None:
        holds = self.holds()
        state = {True: "holds", False: "MISSED", None: "no peer"}[holds]
        print(f"\n{self.title}\n  owed: {self.gate}: {state}")
        for name in sorted(self.figures, key=self.median, reverse=not self.smaller_wins):
            low, high = min(self.figures[name]), max(self.figures[name])
            against = "" if name == "memfast" else f"  memfast is {self.ratio_to(name):.2f} x"
            print(
                f"  {name:28} {self.median(name):10.2f} {self.unit} ({low:.2f}-{high:.2f}){against}"
            )


def lanes(size: int, *, batches: bool = False) -> list[type[Lane]]:
    """Return the contenders that take messages of this size."""
    found = []
    for lane in LANES:
        if lane is MemfastInto or not installed(lane) or (batches and not lane.batches):
            continue
        if lane.name.startswith("subetha") and size > 64:
            continue
        if size in lane.sizes:
            found.append(lane)
    return found


def rows(scale: float) -> list[Row]:
    """Return the rows; *scale* shortens them all."""

    def many(count: int) -> int:
        return max(64, int(count * scale) // 64 * 64)

    slow = ("multiprocessing", "pyzmq", "faster-fifo", "socketpair")

    def count_for(lane: type[Lane], count: int) -> int:
        return many(count // 20 if lane.name.startswith(slow) else count)

    def trips(lane: type[Lane]) -> float:
        return workloads.round_trip_ns(lane, 64, count_for(lane, 100_000))["p50"] / 1e3

    def rates(lane: type[Lane], size: int, capacity: int, count: int) -> float:
        return workloads.one_way_per_second(lane, size, capacity, count_for(lane, count))

    def each(
        measure: Callable[[type[Lane]], float], chosen: list[type[Lane]]
    ) -> dict[str, Callable[[], float]]:
        return {lane.name: lambda lane=lane: measure(lane) for lane in chosen}  # type: ignore[misc]

    floor = "floor"
    return [
        Row(
            "round trip, 64 B, spinning (p50)",
            "us",
            "<= 0.70 x the best peer, <= 3.5 x one cache line in C",
            {
                **each(trips, lanes(64)),
                floor: lambda: floors.line_round_trip_ns(many(200_000)) / 1e3,
            },
            lambda _, ratio: ratio() <= 0.70 and ratio(floor) <= 3.5,
        ),
        Row(
            "one way, 64 B, a call a message",
            "M/s",
            ">= 1.8 x the best peer, >= 30 x multiprocessing.Queue",
            each(lambda lane: rates(lane, 64, SMALL, 2_000_000) / 1e6, lanes(64)),
            lambda _, ratio: ratio() >= 1.8 and ratio("multiprocessing.Queue") >= 30,
        ),
        Row(
            "one way, 64 B, in batches",
            "M/s",
            ">= 1.5 x the best peer",
            each(
                lambda lane: (
                    workloads.batches_per_second(lane, 64, SMALL, count_for(lane, 4_000_000)) / 1e6
                ),
                lanes(64, batches=True),
            ),
            lambda _, ratio: ratio() >= 1.5,
        ),
        Row(
            "one way, 4 KiB",
            "GB/s",
            ">= 2.8 x the best peer",
            each(lambda lane: rates(lane, 4096, SMALL, 400_000) * 4096 / 1e9, lanes(4096)),
            lambda _, ratio: ratio() >= 2.8,
        ),
        Row(
            "one way, 1 MiB, capacity 8 MiB",
            "GB/s",
            ">= 1.5 x the best peer, recv_into >= 0.75 x memcpy",
            {
                **each(
                    lambda lane: rates(lane, 1 << 20, LARGE, 20_000) * (1 << 20) / 1e9,
                    [*lanes(1 << 20), MemfastInto],
                ),
                floor: lambda: floors.memcpy_bytes_per_second(1 << 20, many(5_000)) / 1e9,
            },
            lambda _, ratio: ratio() >= 1.5 and ratio(floor, "memfast recv_into") >= 0.75,
        ),
        Row(
            "zero copy, loan and borrow",
            "M/s",
            "time independent of size",
            {
                "memfast": lambda: workloads.zero_copy_per_second(64, many(200_000)) / 1e6,
                "memfast 64 KiB": lambda: (
                    workloads.zero_copy_per_second(1 << 16, many(200_000)) / 1e6
                ),
                "memfast 1 MiB": lambda: (
                    workloads.zero_copy_per_second(1 << 20, many(200_000)) / 1e6
                ),
            },
            lambda _, ratio: max(ratio("memfast 64 KiB"), ratio("memfast 1 MiB")) <= 1.5,
        ),
        Row(
            "round trip, both sides asleep (p50)",
            "us",
            "<= 1.10 x futex ping-pong in C",
            {
                "memfast": lambda: (
                    workloads.round_trip_ns(Memfast, 64, many(2_000), 0.0005)["p50"] / 1e3
                ),
                floor: lambda: floors.futex_round_trip_ns(many(2_000), 500) / 1e3,
            },
            lambda _, ratio: ratio(floor) <= 1.10,
        ),
        Row(
            "a receiver that waits 5 s",
            "ms",
            "<= 5 ms of CPU",
            {"memfast": lambda: workloads.idle_cpu_ms(5)},
            lambda median, _: median("memfast") <= 5,
        ),
        Row(
            "send and receive, beside a busy Python thread",
            "M/s",
            ">= 0.4 x their own rate alone",
            busy(0.5),
            lambda _, ratio: ratio("memfast alone") >= 0.4,
        ),
    ]


def busy(seconds: float) -> dict[str, Callable[[], float]]:
    """Measure both of a pair in one go."""
    latest = [0.0, 0.0]

    def alone() -> float:
        latest[:] = workloads.beside_a_busy_thread(seconds)
        return latest[0] / 1e6

    return {"memfast alone": alone, "memfast": lambda: latest[1] / 1e6}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three turns, a tenth of the messages")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there")
    parser.add_argument(
        "--only", metavar="WORD", default="", help="only rows with this in the title"
    )
    options = parser.parse_args()
    about = machine()
    print("\n".join(f"{key:9} {value}" for key, value in about.items()))
    chosen = [row for row in rows(0.1 if options.quick else 1.0) if options.only in row.title]
    for row in chosen:
        for _ in range(3 if options.quick else 5):
            row.turn()
        row.print()
        sys.stdout.flush()
    if options.json:
        results = [
            {
                "row": row.title,
                "unit": row.unit,
                "owed": row.gate,
                "holds": row.holds(),
                **row.figures,
            }
            for row in chosen
        ]
        options.json.write_text(json.dumps({"machine": about, "rows": results}, indent=1) + "\n")
        print(f"\nwritten: {options.json}")
    missed = [row.title for row in chosen if row.holds() is False]
    print(f"\n{len(chosen)} rows, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
