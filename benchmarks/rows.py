"""The channel's rows of performance.md: who is measured, how, and what is owed."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import memfast
from benchmarks import floors, workloads
from benchmarks.transports import LANES, Lane, Memfast, MemfastInto, installed
from memfast import stats

Figures = dict[str, list[float]]  # contender -> one figure a turn
Contenders = dict[str, Callable[[], float]]
SMALL, LARGE = 1 << 16, 8 << 20  # capacities
FLOOR = "floor"
READS = {
    "sysinfo": memfast.sysinfo,
    "virtual_memory": memfast.virtual_memory,
    "rss": stats.rss,
}
SLOW = ("multiprocessing", "pyzmq", "faster-fifo", "socketpair")  # fewer messages tell as much


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
        if size in lane.sizes:
            found.append(lane)
    return found


class Plan:
    """The rows, all of them shortened by one scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def many(self, count: int) -> int:
        return max(64, int(count * self.scale) // 64 * 64)

    def count_for(self, lane: type[Lane], count: int) -> int:
        return self.many(count // 20 if lane.name.startswith(SLOW) else count)

    def one_way(self, size: int, capacity: int, count: int, unit: float) -> Contenders:
        """Return each transport's messages a second, times *unit*."""

        def measure(lane: type[Lane]) -> float:
            count_here = self.count_for(lane, count)
            return workloads.one_way_per_second(lane, size, capacity, count_here) * unit

        return {lane.name: lambda lane=lane: measure(lane) for lane in lanes(size)}  # type: ignore[misc]

    def rows(self) -> list[Row]:
        return [
            self.round_trip(),
            self.small(),
            self.batches(),
            self.page(),
            self.large(),
            self.zero_copy(),
            self.asleep(),
            self.idle(),
            self.busy("send and receive", lambda: workloads.sends_and_receives(0.5)),
            *(
                self.busy(f"{name}()", lambda call=call: workloads.calls_per_second(call, 0.3))  # type: ignore[misc]
                for name, call in READS.items()
            ),
        ]

    def round_trip(self) -> Row:
        def measure(lane: type[Lane]) -> float:
            return workloads.round_trip_ns(lane, 64, self.count_for(lane, 100_000))["p50"] / 1e3

        contenders: Contenders = {
            lane.name: lambda lane=lane: measure(lane)  # type: ignore[misc]
            for lane in lanes(64)
        }
        contenders[FLOOR] = lambda: floors.line_round_trip_ns(self.many(200_000)) / 1e3
        return Row(
            "round trip, 64 B, spinning (p50)",
            "us",
            "<= 0.70 x the best peer, <= 3.5 x one cache line in C",
            contenders,
            lambda _, ratio: ratio() <= 0.70 and ratio(FLOOR) <= 3.5,
        )

    def small(self) -> Row:
        return Row(
            "one way, 64 B, a call a message",
            "M/s",
            ">= 1.8 x the best peer, >= 30 x multiprocessing.Queue",
            self.one_way(64, SMALL, 2_000_000, 1e-6),
            lambda _, ratio: ratio() >= 1.8 and ratio("multiprocessing.Queue") >= 30,
        )

    def batches(self) -> Row:
        def measure(lane: type[Lane]) -> float:
            count = self.count_for(lane, 4_000_000)
            return workloads.batches_per_second(lane, 64, SMALL, count) / 1e6

        return Row(
            "one way, 64 B, in batches",
            "M/s",
            ">= 1.5 x the best peer",
            {
                lane.name: lambda lane=lane: measure(lane)  # type: ignore[misc]
                for lane in lanes(64, batches=True)
            },
            lambda _, ratio: ratio() >= 1.5,
        )

    def page(self) -> Row:
        return Row(
            "one way, 4 KiB",
            "GB/s",
            ">= 2.8 x the best peer",
            self.one_way(4096, SMALL, 400_000, 4096 / 1e9),
            lambda _, ratio: ratio() >= 2.8,
        )

    def large(self) -> Row:
        size, count = 1 << 20, 20_000
        contenders = self.one_way(size, LARGE, count, size / 1e9)
        contenders[MemfastInto.name] = lambda: (
            workloads.one_way_per_second(MemfastInto, size, LARGE, self.many(count)) * size / 1e9
        )
        contenders[FLOOR] = lambda: floors.memcpy_bytes_per_second(size, self.many(5_000)) / 1e9
        return Row(
            "one way, 1 MiB, capacity 8 MiB",
            "GB/s",
            ">= 1.5 x the best peer, recv_into >= 0.75 x memcpy",
            contenders,
            lambda _, ratio: ratio() >= 1.5 and ratio(FLOOR, MemfastInto.name) >= 0.75,
        )

    def zero_copy(self) -> Row:
        def measure(size: int) -> float:
            return workloads.zero_copy_per_second(size, self.many(200_000)) / 1e6

        return Row(
            "zero copy, loan and borrow",
            "M/s",
            "time independent of size",
            {
                "memfast": lambda: measure(64),
                "memfast 64 KiB": lambda: measure(1 << 16),
                "memfast 1 MiB": lambda: measure(1 << 20),
            },
            lambda _, ratio: max(ratio("memfast 64 KiB"), ratio("memfast 1 MiB")) <= 1.5,
        )

    def asleep(self) -> Row:
        count, pause = self.many(2_000), 0.0005
        return Row(
            "round trip, both sides asleep (p50)",
            "us",
            "<= 1.10 x futex ping-pong in C",
            {
                "memfast": lambda: workloads.round_trip_ns(Memfast, 64, count, pause)["p50"] / 1e3,
                FLOOR: lambda: floors.futex_round_trip_ns(count, int(pause * 1e6)) / 1e3,
            },
            lambda _, ratio: ratio(FLOOR) <= 1.10,
        )

    def idle(self) -> Row:
        return Row(
            "a receiver that waits 5 s",
            "ms",
            "<= 5 ms of CPU",
            {"memfast": lambda: workloads.idle_cpu_ms(5)},
            lambda median, _: median("memfast") <= 5,
        )

    def busy(self, title: str, rate: Callable[[], float]) -> Row:
        latest = [0.0, 0.0]

        def alone() -> float:
            latest[:] = workloads.beside_a_busy_thread(rate)
            return latest[0] / 1e6

        return Row(
            f"{title}, beside a busy Python thread",
            "M/s",
            ">= 0.4 x their own rate alone",
            {"memfast alone": alone, "memfast": lambda: latest[1] / 1e6},
            lambda _, ratio: ratio("memfast alone") >= 0.4,
        )
