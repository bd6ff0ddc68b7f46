"""``memfast limits``: those of System V shared memory, what is used of each, and setting them."""

from __future__ import annotations

import os

from memfast import sysv
from memfast.cli import output
from memfast.cli.output import Failed
from memfast.cli.swaps import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "limits",
        "Show the limits of System V shared memory and what is used of each, or set one."
        " shmmax is in bytes, shmall in pages, shmmni in segments; 8G or 512M are bytes for both"
        " of the first, and become pages where pages are meant.",
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="set NAME VALUE", help="shmmax, shmall or shmmni")
    add("--persist", action="store_true", help="keep it at each boot, in /etc/sysctl.d")
    add("-n", "--dry-run", action="store_true", help="check, show what would be, change nothing")
    add("--json", action="store_true", help="one object; bytes, pages and numbers")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    if options.words:
        return _set(options)
    if options.persist or options.dry_run:
        raise Failed("--persist and --dry-run go with `set NAME VALUE`")
    limits, usage = sysv.limits(), sysv.usage()
    used = {
        "shmmax": max((segment.size for segment in sysv.segments()), default=0),
        "shmall": usage.shm_pages,
        "shmmni": usage.segments,
    }
    if options.json:
        rows = {
            name: {"limit": getattr(limits, name), "used": used[name], "unit": unit}
            for name, unit in (("shmmax", "bytes"), ("shmall", "pages"), ("shmmni", "segments"))
        }
        output.write_json({"limits": rows, "page_size": _page()})
        return 0
    output.write(f"{'LIMIT':<7}{'VALUE':>20} {'USED':>11}  UNIT\n")
    for name, number in used.items():
        limit = getattr(limits, name)
        output.write(f"{name:<7}{limit:>20} {number:>11}  {_meaning(name, limit)}\n")
    return 0


def _page() -> int:
    return os.sysconf("SC_PAGESIZE")


def _meaning(name: str, number: int) -> str:
    """Return the unit of a limit, and what so many of them are."""
    if name == "shmmni":
        return "segments"
    unit, size = "bytes a segment", number
    if name == "shmall":
        unit, size = f"pages in all, of {_page()} bytes", number * _page()
    return f"{unit}: {human(size) if size >> 62 == 0 else 'unlimited'}"


def _set(options: argparse.Namespace) -> int:
    if options.words[0] != "set" or len(options.words) != 3:
        raise Failed("usage: memfast limits set shmmax|shmall|shmmni VALUE [--persist] [--dry-run]")
    _, name, text = options.words
    try:
        change = sysv.set_limit(
            name, sysv.parse_limit(name, text), options.persist, dry_run=options.dry_run
        )
    except ValueError as error:
        raise Failed(str(error)) from None
    if options.json:
        output.write_json(change._asdict() | {"dry_run": options.dry_run})
        return 0
    would = "would set " if options.dry_run else ""
    output.write(
        f"{would}kernel.{name} = {change.after} (was {change.before};"
        f" {_meaning(name, change.after)})\n"
    )
    if change.path is not None:
        output.write(f"{'would write' if options.dry_run else 'wrote'} {change.path}\n")
        if options.dry_run and change.text:
            output.write("".join(f"    {line}\n" for line in change.text.splitlines()))
    return 0
