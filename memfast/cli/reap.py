"""``memfast reap``: remove what the dead have left, and nothing else."""

from __future__ import annotations

import sys

import memfast
from memfast.cli import output
from memfast.cli.listing import safe, size_text, user_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_ASKED = "Remove what is listed? [y/N] "


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "reap",
        "Show, and with --yes remove, what provably dead processes of this user (root: of all"
        " users) have left of memfast's names and segments. What lives, or of which that cannot"
        " be known, stays. On a terminal it asks.",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only show, never ask")
    how.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument(
        "--json", action="store_true", help="one object, sizes in bytes; never asks"
    )
    parser.add_argument("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    if options.yes:
        return _report(memfast.reap(dry_run=False), options.json)
    found = memfast.reap()
    _report(found, options.json)
    if options.json or not found:
        return 0
    if not options.dry_run and sys.stdin.isatty() and sys.stdout.isatty():
        output.write(_ASKED)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return _report(memfast.reap(dry_run=False), False)
    output.write("Nothing was removed; memfast reap --yes does it.\n")
    return 0


def _report(found: list[memfast.Reaped], as_json: bool) -> int:
    """Print what became of each; return 1 if any failed."""
    failed = sum(one.outcome == "failed" for one in found)
    if as_json:
        output.write_json({"reaped": [one._asdict() for one in found]})
    elif not found:
        output.write("There is nothing left by the dead.\n")
    else:
        output.write("".join(f"{_line(one)}\n" for one in found) + _totals(found))
    return 1 if failed else 0


def _line(one: memfast.Reaped) -> str:
    which = f"id {one.id}" if one.name is None else safe(one.name)
    size, user = size_text(one.size), user_text(one.uid)
    row = f"{one.outcome:12} {safe(one.kind):8} {size:>5} {user:8} {which}"
    return f"{row}\n             {one.error}" if one.error else row


def _totals(found: list[memfast.Reaped]) -> str:
    parts = []
    for outcome in "removed", "would remove", "left alone", "failed":
        sizes = [one.size for one in found if one.outcome == outcome]
        if sizes:
            words = outcome.replace("would remove", "would be removed")
            parts.append(f"{len(sizes)} {words} ({size_text(sum(sizes))})")
    return ", ".join(parts) + "\n"
