"""``memfast swaps``: swapon --show of util-linux, to the byte; and JSON in bytes."""

from __future__ import annotations

import os

from memfast import stats
from memfast.cli import output
from memfast.cli.output import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_COLUMNS = ("NAME", "TYPE", "SIZE", "USED", "PRIO")
_LEFT = ("NAME", "TYPE")  # the others are numbers: to the right


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser("swaps", "Show the swap areas: how large, how much in use, which first.")
    add = parser.add_argument
    add("--show", nargs="?", const="", metavar="COLUMNS", help=f"of {','.join(_COLUMNS)}")
    add("--bytes", action="store_true", help="sizes in bytes")
    add("--noheadings", action="store_true", help="no titles")
    add("--raw", action="store_true", help="not aligned, a space in a name as \\x20")
    add("--json", action="store_true", help="one object, sizes in bytes")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    columns = [name.upper() for name in options.show.split(",")] if options.show else _COLUMNS
    for name in columns:
        if name not in _COLUMNS:
            raise Failed(f"unknown column: {name}; there are {', '.join(_COLUMNS)}")
    areas = stats.swaps()
    if options.json:
        output.write_json({"swaps": [area._asdict() for area in areas]})
    elif areas:
        output.write(_table(options, columns, [_cells(options, area) for area in areas]))
    return 0


def _cells(options: argparse.Namespace, area: stats.SwapArea) -> dict[str, str]:
    size = str if options.bytes else human
    name = area.file.removesuffix(" (deleted)")
    return {
        "NAME": _escaped(name, options.raw),
        "TYPE": area.type,
        "SIZE": size(area.size),
        "USED": size(area.used),
        "PRIO": str(area.priority),
    }


def _escaped(name: str, raw: bool) -> str:
    """Replace what would break a line; in raw output all but printable ASCII, blanks included."""
    if raw:
        return "".join(
            chr(byte) if 0x21 <= byte < 0x7F and byte != ord("\\") else f"\\x{byte:02x}"
            for byte in os.fsencode(name)
        )
    return "".join(c if ord(c) >= 0x20 and c != "\x7f" else f"\\x{ord(c):02x}" for c in name)


def _table(options: argparse.Namespace, columns: Sequence[str], areas: list[dict[str, str]]) -> str:
    titles = dict(zip(_COLUMNS, _COLUMNS, strict=True))
    rows = [titles, *areas]
    widths = {name: max(len(row[name]) for row in rows) for name in columns}
    if options.noheadings:
        rows = areas

    def cell(row: dict[str, str], name: str, last: bool) -> str:
        if options.raw or (last and name in _LEFT):
            return row[name]
        return f"{row[name]:{'<' if name in _LEFT else '>'}{widths[name]}}"

    ends = [index == len(columns) - 1 for index in range(len(columns))]
    return "".join(
        " ".join(cell(row, name, last) for name, last in zip(columns, ends, strict=True)) + "\n"
        for row in rows
    )


def human(size: int) -> str:
    """Print bytes as util-linux does: 11.8G, 2G, 999K, 0B; to the nearest tenth."""
    exponent = 0
    while size >> 10 * (exponent + 1):
        exponent += 1
    unit = 1 << 10 * exponent
    whole, rest = divmod(size, unit)
    tenths = (rest * 1000 // unit + 50) // 100
    if tenths == 10:
        whole, tenths = whole + 1, 0
    return f"{whole}{f'.{tenths}' if tenths else ''}{'BKMGTPE'[exponent]}"
