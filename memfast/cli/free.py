"""``memfast free``: free(1) of procps 4, to the byte; and JSON, the old table, the cgroup's."""

from __future__ import annotations

import re

from memfast import stats
from memfast.cli import output
from memfast.cli.output import KIB, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

# Option -> (power of the unit, powers of 1000), and how the help calls it.
_UNITS = (
    (("-b", "--bytes"), (0, False), "bytes"),
    (("--kilo",), (1, True), "kilobytes"),
    (("--mega",), (2, True), "megabytes"),
    (("--giga",), (3, True), "gigabytes"),
    (("--tera",), (4, True), "terabytes"),
    (("--peta",), (5, True), "petabytes"),
    (("-k", "--kibi"), (1, False), "kibibytes (default)"),
    (("-m", "--mebi"), (2, False), "mebibytes"),
    (("-g", "--gibi"), (3, False), "gibibytes"),
    (("--tebi",), (4, False), "tebibytes"),
    (("--pebi",), (5, False), "pebibytes"),
)
_MICROSECOND = 1e-6
_INT_MAX = (1 << 31) - 1


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser("free", "Show how much memory and swap is used, free and available.")
    for names, unit, called in _UNITS:
        parser.add_argument(
            *names, action="append_const", const=unit, dest="units", help=f"show {called}"
        )
    add = parser.add_argument
    add("-h", "--human", action="store_true", help="the unit that makes each figure short")
    add("--si", action="store_true", help="powers of 1000, not of 1024")
    add("-l", "--lohi", action="store_true", help="low and high memory (32-bit kernels)")
    add("-t", "--total", action="store_true", help="memory and swap together")
    add("-v", "--committed", action="store_true", help="memory that was promised, and the limit")
    add("-w", "--wide", action="store_true", help="buffers and cache in columns of their own")
    add("-s", "--seconds", metavar="N", help="show again every N seconds; 0.5 and 0,5 are the same")
    add("-c", "--count", metavar="N", help="show N times, then end")
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--old",
        action="store_true",
        help="the table of procps up to 3.3.9, with its line -/+ buffers/cache: used is all that"
        " is not free, cached is without slab",
    )
    views.add_argument(
        "--cgroup", action="store_true", help="what binds this process: the host, or which cgroup"
    )
    add("--json", action="store_true", help="all figures in bytes; with -s one object a line")
    add("--help", action="help", help="show this and exit")
    return parser


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\s*[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)", text):
        raise Failed(f"seconds argument failed: '{text}': Invalid argument")
    seconds = float(text.replace(",", "."))
    if seconds < _MICROSECOND:
        raise Failed(f"seconds argument `{text}' is not positive number")
    return seconds


def _count(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]+", text):
        raise Failed(f"failed to parse count argument: '{text}'")
    if not 1 <= int(text) <= _INT_MAX:
        raise Failed(f"failed to parse count argument: '{text}': Numerical result out of range")
    return int(text)


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    seconds = 1.0 if options.seconds is None else _seconds(options.seconds)
    count = None if options.count is None else _count(options.count)
    if options.units and len(options.units) > 1:
        raise Failed("Multiple unit options don't make sense.")
    if options.seconds is None and options.count is None:
        count = 1
    view = _cgroup if options.cgroup else _old if options.old else _now
    output.repeat(lambda: view(options), seconds, count, between="" if options.json else "\n")
    return 0


def _printer(options: argparse.Namespace) -> Callable[[int], str]:
    """Return what prints a figure, given in bytes, in the unit that was asked for."""
    if options.human:
        return lambda size: output.human(size // KIB, options.si)
    exponent, si = options.units[0] if options.units else (1, False)
    return lambda size: output.scaled(size // KIB, exponent, si or options.si)


def _row(label: str, cells: Iterable[str]) -> str:
    return f"{label:<9}" + " ".join(f"{cell:>11}" for cell in cells) + "\n"


def _together(figures: stats.Free) -> tuple[int, int, int]:
    """Return total, used and free of memory and swap together."""
    mem, swap = figures.mem, figures.swap
    return mem.total + swap.total, mem.used + swap.used, mem.free + swap.free


# ---- free(1) of today ----


def _now(options: argparse.Namespace) -> None:
    figures = stats.free()
    if options.json:
        output.write_json(_object(figures))
        return
    mem, number = figures.mem, _printer(options)
    cache = ("buffers", "cache") if options.wide else ("buff/cache",)
    cached = (mem.buffers, mem.cache) if options.wide else (mem.buffers + mem.cache,)
    rows = [("", ("total", "used", "free", "shared", *cache, "available"))]

    def add(label: str, *sizes: int) -> None:
        rows.append((label, tuple(map(number, sizes))))

    add("Mem:", mem.total, mem.used, mem.free, mem.shared, *cached, mem.available)
    if options.lohi:
        add("Low:", *figures.low)
        add("High:", *figures.high)
    add("Swap:", *figures.swap)
    if options.total:
        add("Total:", *_together(figures))
    if options.committed:
        add("Comm:", *figures.commit, figures.commit.free)
    output.write("".join(_row(label, cells) for label, cells in rows))


def _object(figures: stats.Free) -> dict[str, Any]:
    return {
        "mem": figures.mem._asdict(),
        "swap": figures.swap._asdict(),
        "low": figures.low._asdict(),
        "high": figures.high._asdict(),
        "total": dict(zip(("total", "used", "free"), _together(figures), strict=True)),
        "commit": {**figures.commit._asdict(), "free": figures.commit.free},
    }


# ---- free(1) as it was ----


def _old(options: argparse.Namespace) -> None:
    figures, cached = stats.free(), stats.meminfo().get("Cached", 0)
    mem, swap = figures.mem, figures.swap
    used, reclaimable = mem.total - mem.free, mem.buffers + cached
    columns = {
        "total": mem.total,
        "used": used,
        "free": mem.free,
        "shared": mem.shared,
        "buffers": mem.buffers,
        "cached": cached,
    }
    without = {"used": used - reclaimable, "free": mem.free + reclaimable}
    if options.json:
        output.write_json({"mem": columns, "buffers_cache": without, "swap": swap._asdict()})
        return
    number = _printer(options)

    def row(label: str, sizes: Iterable[int]) -> str:
        return f"{label:<7}" + "".join(f" {number(size):>10}" for size in sizes) + "\n"

    lines = [" " * 7 + "".join(f" {title:>10}" for title in columns) + "\n"]
    lines.append(row("Mem:", columns.values()))
    if options.lohi:
        lines += [row("Low:", figures.low), row("High:", figures.high)]
    lines += [row("-/+ buffers/cache:", without.values()), row("Swap:", swap)]
    if options.total:
        lines.append(row("Total:", (a + b for a, b in zip(columns.values(), swap, strict=False))))
    if options.committed:
        lines.append(row("Comm:", (*figures.commit, figures.commit.free)))
    output.write("".join(lines))


# ---- what binds this process ----


def _cgroup(options: argparse.Namespace) -> None:
    found = stats.effective()
    if options.json:
        group = found.cgroup
        levels = [level._asdict() for level in group.levels]
        whole = {**found._asdict(), "cgroup": {**group._asdict(), "levels": levels}}
        output.write_json(whole)
        return
    number = _printer(options)

    def row(label: str, sizes: tuple[int | None, ...], where: str) -> str:
        cells = ["none" if size is None else number(size) for size in sizes]
        return _row(label, cells)[:-1] + f"  {output.printable(where)}\n"

    lines = [_row("", ("limit", "used", "available"))[:-1] + "  of\n"]
    for level in reversed(found.cgroup.levels):
        sizes = (level.limit, level.working_set, level.headroom)
        lines.append(row("Cgroup:", sizes, level.path))
    host = (found.host_total, found.host_total - found.host_available, found.host_available)
    lines.insert(1, row("Host:", host, "/proc/meminfo" + " (lxcfs)" * found.lxcfs))
    bound = (found.total, found.used, found.available)
    binding = found.cgroup.binding
    where = binding.path if found.source == "cgroup" and binding else found.source
    lines.append(row("Bound:", bound, where))
    output.write("".join(lines))
