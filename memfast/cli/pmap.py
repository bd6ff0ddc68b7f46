"""``memfast pmap``: pmap(1) of procps 4, to the byte; and JSON in bytes."""

from __future__ import annotations

import re

from memfast import stats
from memfast.cli import output, pmap_wide
from memfast.cli.output import KIB, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

_ADDRESS_MAX = (1 << 64) - 1
_PID_MAX = (1 << 31) - 1
_MISSING = 42  # the exit status of pmap(1) where a process was not found
_TITLES = {
    "x": "Address           Kbytes     RSS   Dirty Mode  Mapping\n",
    "d": "Address           Kbytes Mode  Offset           Device    Mapping\n",
}


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser("pmap", "Show the mappings of processes and their sizes, in KiB.")
    add = parser.add_argument
    add("pids", nargs="+", metavar="PID", help="a process id, or /proc/PID")
    add(
        "-x", "--extended", action="append_const", const="x", dest="modes", help="what is in memory"
    )
    add("-X", action="append_const", const="X", dest="modes", help="more; -XX: all there is")
    add("-d", "--device", action="append_const", const="d", dest="modes", help="offset and device")
    add("-q", "--quiet", action="store_true", help="no titles and no sums")
    add("-p", "--show-path", action="store_true", help="the whole path of a file")
    add("-A", "--range", metavar="LOW[,HIGH]", help="only what lies there; in hexadecimal")
    add("--json", action="store_true", help="bytes; one object a process, a line each")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    pids = [pid for pid in map(_pid, options.pids) if pid is not None]
    if len(pids) < len(options.pids):
        parser.error("a process id is a number above 0")
    modes = set(options.modes or ())
    if len(modes) > 1:
        raise Failed("options -c, -C, -d, -n, -N, -x, -X are mutually exclusive")
    options.mode = modes.pop() if modes else ""
    options.everything = (options.modes or []).count("X") > 1
    options.low, options.high = _range(options.range)
    status = 0
    for pid in pids:
        status |= _show(options, pid)
    return status


def _pid(word: str) -> int | None:
    number = word.removeprefix("/proc/")
    if not re.fullmatch("[0-9]+", number) or not 0 < int(number) <= _PID_MAX:
        return None
    return int(number)


def _range(text: str | None) -> tuple[int, int]:
    """Read LOW, LOW,HIGH, LOW, or ,HIGH; one address is the mapping that it lies in."""
    if not text:
        return 0, _ADDRESS_MAX
    match = re.fullmatch("(?:0[xX])?([0-9a-fA-F]*)(,?)(?:0[xX])?([0-9a-fA-F]*)", text)
    if not match:
        raise Failed(f"failed to parse argument: '{text}'")
    low = min(int(match[1] or "0", 16), _ADDRESS_MAX)
    if not match[2]:
        return low, low
    return low, min(int(match[3], 16), _ADDRESS_MAX) if match[3] else _ADDRESS_MAX


def _show(options: argparse.Namespace, pid: int) -> int:
    """Show one process and return the exit status."""
    try:
        command = stats.command(pid)
    except ProcessLookupError:
        return _MISSING
    title = f"{pid}:   {_line(command)}\n"
    read = stats.smaps if options.mode in ("x", "X") or options.json else stats.vmas
    try:
        mappings: list[Any] = read(pid)
    except PermissionError as error:  # pmap(1) prints the title and says nothing
        if not options.json:
            output.write(title)
        return output.complain("pmap", error.strerror or str(error))
    except ProcessLookupError:
        return _MISSING
    if options.mode != "X":
        mappings = [one for one in mappings if options.low < one.end and one.start <= options.high]
    if options.json:
        rows = [mapping._asdict() for mapping in mappings]
        for row in rows:
            row["other"] = dict(row["other"])
        output.write_json({"pid": pid, "command": _line(command), "mappings": rows})
        return 0
    table = {"x": _extended, "d": _device, "X": pmap_wide.table}.get(options.mode, _plain)
    output.write(title + table(options, mappings))
    return 0


def _line(command: stats.Command) -> str:
    """Return the command line as ps(1) shows it: what cannot be printed is a question mark."""
    text = "\0".join(command.arguments).rstrip("\0") or f"[{command.name}]"
    text = text.replace("\0", " ").replace("\n", " ")
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text + " <defunct>" * command.zombie


# ---- one mapping ----


def _mode(perms: str) -> str:
    return perms[:3] + ("s" if perms[3] == "s" else "-") + "-"


def _name(options: argparse.Namespace, mapping: Any) -> str:
    """Return what a mapping is of: a file's name or path, or what pmap(1) calls the others."""
    path: str = mapping.path
    if path == "[stack]":
        return "  [ stack ]"
    if re.match(r"/SYSV[0-9a-f]{8}", path):
        return f"  [ shmid=0x{mapping.inode:x} ]"
    if "/" not in path:
        return "  [ anon ]"
    return output.printable(path if options.show_path else path.rpartition("/")[2])


def _sum(mappings: Iterable[Any], size: Callable[[Any], int]) -> int:
    return sum(map(size, mappings))


def _kib(mapping: Any) -> int:
    kib: int = (mapping.end - mapping.start) // KIB
    return kib


# ---- tables ----


def _plain(options: argparse.Namespace, mappings: list[Any]) -> str:
    rows = [
        f"{one.start:016x} {_kib(one):>6}K {_mode(one.perms)} {_name(options, one)}\n"
        for one in mappings
    ]
    if not options.quiet:
        rows.append(f" total {_sum(mappings, _kib):>16}K\n")
    return "".join(rows)


def _extended(options: argparse.Namespace, mappings: list[Any]) -> str:
    def dirty(one: Any) -> int:
        kib: int = (one.shared_dirty + one.private_dirty) // KIB
        return kib

    def resident(one: Any) -> int:
        kib: int = one.rss // KIB
        return kib

    rows = [
        f"{one.start:016x} {_kib(one):>7} {resident(one):>7} {dirty(one):>7}"
        f" {_mode(one.perms)} {_name(options, one)}\n"
        for one in mappings
    ]
    if not options.quiet:
        sums = (_sum(mappings, size) for size in (_kib, resident, dirty))
        total = "total kB         {:>7} {:>7} {:>7}\n".format(*sums)
        rows = [_TITLES["x"], *rows, "---------------- ------- ------- ------- \n", total]
    return "".join(rows)


def _device(options: argparse.Namespace, mappings: list[Any]) -> str:
    rows = []
    for one in mappings:
        major, minor = (int(number, 16) for number in one.device.split(":"))
        rows.append(
            f"{one.start:016x} {_kib(one):>7} {_mode(one.perms)} {one.offset:016x}"
            f" {major:03x}:{minor:05x} {_name(options, one)}\n"
        )
    if not options.quiet:
        shared = _sum((one for one in mappings if one.perms[3] == "s"), _kib)
        private = _sum(
            (one for one in mappings if one.perms[1] == "w" and one.perms[3] != "s"), _kib
        )
        rows = [
            _TITLES["d"],
            *rows,
            f"mapped: {_sum(mappings, _kib)}K    writeable/private: {private}K"
            f"    shared: {shared}K\n",
        ]
    return "".join(rows)
