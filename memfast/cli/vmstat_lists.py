"""``memfast vmstat`` but for its rows: counters (-s, -f), disks (-d, -D, -p), slab caches (-m)."""

from __future__ import annotations

import time

from memfast import stats
from memfast.cli import output
from memfast.cli.output import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from memfast.cli.vmstat import Header

_DISK = (
    "disk- ------------reads------------ ------------writes----------- -----IO------",
    "       total merged sectors      ms  total merged sectors      ms    cur    sec",
    (6, 6, 7, 7, 6, 6, 7, 7, 6, 6),
)
_DISK_WIDE = (
    "disk- -------------------reads------------------- -------------------writes------------------"
    " ------IO-------",
    "          total    merged     sectors          ms     total    merged     sectors          ms"
    "     cur     sec",
    (9, 9, 11, 11, 9, 9, 11, 11, 7, 7),
)
_MS = 1000  # in a second


def _counted(figures: dict[str, int]) -> None:
    output.write("".join(f"{figure:>13} {label}\n" for label, figure in figures.items()))


# ---- counters ----


def forks(options: argparse.Namespace) -> None:
    """Print how many tasks were created since boot."""
    number = stats.activity().forks
    if options.json:
        output.write_json({"forks": number})
    else:
        _counted({"forks": number})


def totals(options: argparse.Namespace, unit: Callable[[int], int]) -> None:
    """Print memory in the unit of -S, and what was counted since boot."""
    free, info, counters, now = stats.free(), stats.meminfo(), stats.vmstat(), stats.activity()
    mem, swap = free.mem, free.swap
    sizes = {
        "total memory": mem.total,
        "used memory": mem.used,
        "active memory": info.get("Active", 0),
        "inactive memory": info.get("Inactive", 0),
        "free memory": mem.free,
        "buffer memory": mem.buffers,
        "swap cache": mem.cache,  # vmstat(8) calls it so; it is the page cache
        "total swap": swap.total,
        "used swap": swap.used,
        "free swap": swap.free,
    }
    if options.json:
        named = {label.replace(" ", "_"): size for label, size in sizes.items()}
        named["cache"] = named.pop("swap_cache")
        paged = {name: counters.get(name, 0) for name in ("pgpgin", "pgpgout", "pswpin", "pswpout")}
        rest = now._asdict()
        output.write_json({**named, **rest, "cpu": now.cpu._asdict(), **paged})
        return
    cpu = now.cpu
    _counted(
        {
            **{f"{options.unit} {label}": unit(size) for label, size in sizes.items()},
            "non-nice user cpu ticks": cpu.user,
            "nice user cpu ticks": cpu.nice,
            "system cpu ticks": cpu.system,
            "idle cpu ticks": cpu.idle,
            "IO-wait cpu ticks": cpu.iowait,
            "IRQ cpu ticks": cpu.irq,
            "softirq cpu ticks": cpu.softirq,
            "stolen cpu ticks": cpu.steal,
            "non-nice guest cpu ticks": cpu.guest,
            "nice guest cpu ticks": cpu.guest_nice,
            "K paged in": counters.get("pgpgin", 0),
            "K paged out": counters.get("pgpgout", 0),
            "pages swapped in": counters.get("pswpin", 0),
            "pages swapped out": counters.get("pswpout", 0),
            "interrupts": now.interrupts,
            "CPU context switches": now.context_switches,
            "boot time": now.boot_time,
            "forks": now.forks,
        }
    )


def disk_sum(options: argparse.Namespace) -> None:
    """Print what all disks together have done."""
    found = stats.disks()
    disks = [disk for disk in found if not disk.partition]
    names = stats.Disk._fields[2:]
    sums = {name: sum(getattr(disk, name) for disk in disks) for name in names}
    counts = {"disks": len(disks), "partitions": len(found) - len(disks)}
    if options.json:
        output.write_json({**counts, **sums})
        return
    _counted(
        {
            **counts,
            "total reads": sums["reads"],
            "merged reads": sums["reads_merged"],
            "read sectors": sums["sectors_read"],
            "milli reading": sums["reading_ms"],
            "writes": sums["writes"],
            "merged writes": sums["writes_merged"],
            "written sectors": sums["sectors_written"],
            "milli writing": sums["writing_ms"],
            # Its labels are not its units: these are thousandths, the two below seconds.
            "inprogress IO": sums["in_progress"] // _MS,
            "milli spent IO": sums["busy_ms"] // _MS,
            "milli weighted IO": sums["waiting_ms"] // _MS,
        }
    )


# ---- tables, again and again ----


def printer(options: argparse.Namespace, header: Header) -> Callable[[], None]:
    """Return what prints the table that was asked for, once."""
    if options.partition is not None:
        return lambda: _partition(options, header)
    table = _slabs if options.slabs else _disks

    def show() -> None:
        header.restart()
        table(options, header)

    return show


def _write_rows(header: Header, titles: str, rows: list[str]) -> None:
    output.write("".join(header.before_row(titles) + row + "\n" for row in rows))


def _write_objects(key: str, objects: list[dict[str, Any]]) -> None:
    output.write_json({"time": round(time.time(), 3), key: objects})


def _slabs(options: argparse.Namespace, header: Header) -> None:
    found = stats.slabs()
    if options.json:
        _write_objects("slabs", [slab._asdict() for slab in found])
        return
    titles = f"{'Cache':<24} {'Num':>6} {'Total':>6} {'Size':>6} {'Pages':>6}\n"
    rows = [
        f"{slab.name:<24.24} {slab.active_objects:>6} {slab.objects:>6} {slab.object_size:>6}"
        f" {slab.objects_per_slab:>6}"
        for slab in found
    ]
    _write_rows(header, titles, rows)


def _disks(options: argparse.Namespace, header: Header) -> None:
    found = [disk for disk in stats.disks() if not disk.partition]
    if options.json:
        _write_objects("disks", [disk._asdict() for disk in found])
        return
    above, titles, widths = _DISK_WIDE if options.wide else _DISK
    stamp = ""
    if options.timestamp:
        above += " -----timestamp-----"
        titles += f" {time.strftime('%Z'):>19}"
        stamp = time.strftime(" %Y-%m-%d %H:%M:%S")
    rows = []
    for disk in found:
        figures = (*disk[2:10], disk.in_progress // _MS, disk.busy_ms // _MS)
        cells = zip(figures, widths, strict=True)
        text = " ".join(f"{figure:>{width}}" for figure, width in cells)
        rows.append(f"{disk.name:<5} {text}{stamp}")
    _write_rows(header, f"{above}\n{titles}\n", rows)


def _partition(options: argparse.Namespace, header: Header) -> None:
    name = options.partition.removeprefix("/dev/")
    found = [disk for disk in stats.disks() if disk.name == name]
    if not found:
        raise Failed(f"Disk/Partition {name} not found")
    disk = found[0]
    if options.json:
        output.write_json({"time": round(time.time(), 3), **disk._asdict()})
        return
    titles = (
        f"{name:<10} {'reads':>10} {'read sectors':>17} {'writes':>11} {'requested writes':>17}\n"
    )
    row = f"{disk.reads:>21} {disk.sectors_read:>17} {disk.writes:>11} {disk.sectors_written:>17}\n"
    output.write(header.above(titles) + row)
