"""``memfast vmstat``: vmstat(8) of procps 4, to the byte; and JSON in bytes."""

from __future__ import annotations

import os
import struct
import sys
import time

from memfast import stats
from memfast.cli import output, vmstat_lists
from memfast.cli.output import KIB, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_UNITS = {"b": 1, "B": 1, "k": 1000, "K": 1024, "m": 1000_000, "M": 1024 * 1024}
_UINT_MAX = (1 << 32) - 1
_PAGE_KIB = os.sysconf("SC_PAGESIZE") // KIB
_TICKS = os.sysconf("SC_CLK_TCK")  # a second

_HEAD = "procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----"
_HEAD_WIDE = (
    "--procs-- -----------------------memory---------------------- ---swap-- -----io----"
    " -system-- ----------cpu----------"
)
# Name and width, narrow and wide; the guest's time is in the wide table only.
_COLUMNS = (
    *(("r", 2, 4), ("b", 2, 4), ("swpd", 6, 12), ("free", 6, 12), ("buff", 6, 12)),
    *(("cache", 6, 12), ("si", 4, 4), ("so", 4, 4), ("bi", 5, 5), ("bo", 5, 5), ("in", 4, 4)),
    *(("cs", 4, 4), ("us", 2, 3), ("sy", 2, 3), ("id", 2, 3), ("wa", 2, 3), ("st", 2, 3)),
)


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "vmstat", "Show processes, memory, swapping, disk traffic, interrupts and CPU time."
    )
    add = parser.add_argument
    add("delay", nargs="?", help="seconds between the lines; the first line is since boot")
    add("count", nargs="?", help="how many lines; without it, for ever")
    add(
        "-a", "--active", action="store_true", help="inactive and active memory, not buff and cache"
    )
    add("-f", "--forks", action="store_true", help="the number of forks since boot")
    add("-m", "--slabs", action="store_true", help="the kernel's slab caches (root)")
    add("-n", "--one-header", action="store_true", help="the header once, not once a page")
    add("-s", "--stats", action="store_true", help="a table of counters")
    add("-d", "--disk", action="store_true", help="the disks")
    add("-D", "--disk-sum", action="store_true", help="all disks together")
    add("-p", "--partition", metavar="DEV", help="one disk or partition")
    add("-S", "--unit", default="K", help="k, K, m or M: 1000, 1024, 1000000, 1048576 bytes")
    add("-w", "--wide", action="store_true", help="wide columns")
    add("-t", "--timestamp", action="store_true", help="the time at the end of each line")
    add("-y", "--no-first", action="store_true", help="leave out the line since boot")
    add("--json", action="store_true", help="bytes, a second; with a delay one object a line")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.unit[:1] not in _UNITS or not options.unit:
        raise Failed("-S requires k, K, m or M (default is KiB)")
    options.unit = options.unit[0]
    delay, count = _interval(options)
    lists = [options.stats, options.slabs, options.disk, options.disk_sum, options.partition]
    if not options.forks and sum(1 for one in lists if one not in (False, None)) > 1:
        parser.error("-s, -m, -d, -D and -p do not go together")
    if options.forks:
        vmstat_lists.forks(options)
    elif options.stats:
        vmstat_lists.totals(options, lambda size: unit(options, size))
    elif options.disk_sum:
        vmstat_lists.disk_sum(options)
    elif options.slabs or options.disk or options.partition is not None:
        show = vmstat_lists.printer(options, Header(options))
        output.repeat(show, delay, max(count, 1) if count is not None else None)
    else:
        _rows(options, delay, count)
    return 0


def _interval(options: argparse.Namespace) -> tuple[int, int | None]:
    """Return the seconds between rows, and how many rows; None: for ever."""
    delay, count = 1, 1
    if options.delay is None:
        return delay, count
    delay = output.whole_number(options.delay)
    if delay < 1:
        raise Failed("delay must be positive integer")
    if delay > _UINT_MAX:
        raise Failed("too large delay value")
    if options.count is None:
        return delay, None
    count = output.whole_number(options.count)
    return delay, None if count < 0 else count


class Header:
    """Titles above a table: printed first, and again for each page of the terminal."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._once = options.one_header
        self._left: int | None = None  # rows until it is due again; None: not printed yet
        try:
            lines = os.get_terminal_size(sys.stdout.fileno()).lines or 24
        except (OSError, ValueError):  # no terminal
            lines = 24
        self._page = lines - 3 if lines > 3 else 22

    def above(self, titles: str) -> str:
        """Return the titles where they are due before the first row, else nothing."""
        if self._left is not None:
            return ""
        self._left = self._page
        return titles

    def before_row(self, titles: str) -> str:
        """Return the titles where they are due before this row, else nothing."""
        if self._left == 0 and not self._once:
            self._left = None
        text = self.above(titles)
        self._left = (self._left or 0) - 1
        return text

    def restart(self) -> None:
        """Begin another table: it has titles of its own, unless one header is all."""
        if not self._once:
            self._left = None


def unit(options: argparse.Namespace, size: int) -> int:
    """Turn bytes into the unit of -S; as vmstat(8) does, in numbers of 24 bits."""
    return int(_float(_float(_float(size // KIB) / _UNITS[options.unit]) * KIB))


def _float(value: float) -> float:
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


# ---- rows ----


class Sample:
    """One reading of all that a row is made of."""

    def __init__(self) -> None:
        self.taken = time.time(), time.monotonic()
        self.activity = stats.activity()
        self.counters = stats.vmstat()
        self.info = stats.meminfo()
        self.free = stats.free()


class Events:
    """What happened between two samples, or since boot; what went back began anew, from 0."""

    def __init__(self, now: Sample, then: Sample | None) -> None:
        def counter(name: str) -> int:
            last = then.counters.get(name, 0) if then else 0
            return since(now.counters.get(name, 0), last)

        before = then.activity if then else None
        self.swap_in, self.swap_out = counter("pswpin"), counter("pswpout")  # pages
        self.block_in, self.block_out = counter("pgpgin"), counter("pgpgout")  # KiB
        self.interrupts = since(now.activity.interrupts, before.interrupts if before else 0)
        self.switches = since(
            now.activity.context_switches, before.context_switches if before else 0
        )
        last = before.cpu if before else (0,) * len(now.activity.cpu)
        # Idle runs back by itself at times: none then.
        ticks = [max(new - old, 0) for new, old in zip(now.activity.cpu, last, strict=True)]
        user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice = ticks
        self.guest = guest + guest_nice
        self.user = max(user + nice - self.guest, 0)
        self.system = system + irq + softirq
        self.idle, self.iowait, self.steal = idle, iowait, steal
        self.ticks = user + nice + self.system + idle + iowait + steal
        if self.ticks == 0:
            self.ticks = self.idle = 1

    @property
    def shares(self) -> dict[str, int]:
        """Per cent of the CPU time, rounded."""
        return {
            name: (100 * getattr(self, name) + self.ticks // 2) // self.ticks
            for name in ("user", "system", "idle", "iowait", "steal", "guest")
        }


def since(now: int, then: int) -> int:
    return now - then if now >= then else now


def _rows(options: argparse.Namespace, delay: int, count: int | None) -> None:
    """Print a row since boot, then one for each delay."""
    header, then, shown = Header(options), Sample(), 0
    if options.no_first:
        if not options.json:
            output.write(header.above(_titles(options)))
    else:
        _print_row(options, header, then, None, delay)
        shown = 1
    while count is None or shown < count:
        time.sleep(delay)
        now = Sample()
        _print_row(options, header, now, then, delay)
        then = now
        shown += 1


def _print_row(
    options: argparse.Namespace, header: Header, now: Sample, then: Sample | None, delay: int
) -> None:
    if options.json:
        output.write_json(_object(now, then))
        return
    titles = header.before_row(_titles(options))
    output.write(titles + _row(options, now, Events(now, then), delay if then else None))


def _columns(options: argparse.Namespace) -> list[tuple[str, int]]:
    names = [(name, wide if options.wide else narrow) for name, narrow, wide in _COLUMNS]
    if options.active:
        names[4:6] = [("inact", names[4][1]), ("active", names[5][1])]
    return [*names, ("gu", 3)] if options.wide else names


def _titles(options: argparse.Namespace) -> str:
    above = _HEAD_WIDE if options.wide else _HEAD
    titles = " ".join(f"{name:>{width}}" for name, width in _columns(options))
    if options.timestamp:
        above += " -----timestamp-----"
        titles += f" {time.strftime('%Z'):>19}"
    return f"{above}\n{titles}\n"


def _row(options: argparse.Namespace, now: Sample, events: Events, delay: int | None) -> str:
    def rate(count: int) -> int:
        """Return events a second: of the delay, or of the ticks since boot."""
        if delay is None:
            return (count * _TICKS + events.ticks // 2) // events.ticks & _UINT_MAX
        return (count + delay // 2) // delay & _UINT_MAX

    mem, memory = now.free.mem, (now.free.mem.buffers, now.free.mem.cache)
    if options.active:
        memory = now.info.get("Inactive", 0), now.info.get("Active", 0)
    figures = [
        now.activity.running,
        now.activity.blocked,
        *(unit(options, size) for size in (now.free.swap.used, mem.free, *memory)),
        rate(unit(options, events.swap_in * _PAGE_KIB * KIB)),
        rate(unit(options, events.swap_out * _PAGE_KIB * KIB)),
        *map(rate, (events.block_in, events.block_out, events.interrupts, events.switches)),
        *events.shares.values(),
    ]
    cells = zip(figures, _columns(options), strict=False)
    text = " ".join(f"{figure:>{width}}" for figure, (_, width) in cells)
    return text + stamp(options) + "\n"


def stamp(options: argparse.Namespace) -> str:
    """Return the time, where it was asked for, as the last column."""
    return time.strftime(" %Y-%m-%d %H:%M:%S") if options.timestamp else ""


def _object(now: Sample, then: Sample | None) -> dict[str, Any]:
    events = Events(now, then)
    seconds = now.taken[1] - then.taken[1] if then else float(stats.sysinfo().uptime)

    def rate(count: int) -> float:
        return round(count / seconds, 3)

    return {
        "time": round(now.taken[0], 3),
        "seconds": round(seconds, 3),
        "running": now.activity.running,
        "blocked": now.activity.blocked,
        "swap_used": now.free.swap.used,
        "free": now.free.mem.free,
        "buffers": now.free.mem.buffers,
        "cache": now.free.mem.cache,
        "inactive": now.info.get("Inactive", 0),
        "active": now.info.get("Active", 0),
        "swap_in": rate(events.swap_in * _PAGE_KIB * KIB),
        "swap_out": rate(events.swap_out * _PAGE_KIB * KIB),
        "block_in": rate(events.block_in * KIB),
        "block_out": rate(events.block_out * KIB),
        "interrupts": rate(events.interrupts),
        "context_switches": rate(events.switches),
        "cpu_percent": events.shares,
    }
