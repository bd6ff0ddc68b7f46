"""``memfast doctor``: what on this machine stands in the way, and what to do about it."""

from __future__ import annotations

import textwrap

import memfast
from memfast.cli import output
from memfast.cli.listing import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_COLUMNS = 80
_INDENT = " " * 9


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "doctor",
        "Look at what shared memory depends on: /dev/shm, limits, features of the kernel,"
        " containers, cgroups; say what is wrong and what to do. Changes nothing."
        " Exit status 1 if there is a warning.",
    )
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    found = memfast.doctor()
    counts = {kind: sum(one.severity == kind for one in found) for kind in ("warning", "note")}
    if options.json:
        output.write_json({"findings": [one._asdict() for one in found]})
    else:
        lines = [line for one in found for line in _lines(one)]
        said = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items())
        output.write("\n".join([*lines, f"{len(found)} looked at: {said}"]) + "\n")
    return 1 if counts["warning"] else 0


def _lines(one: memfast.Finding) -> list[str]:
    advice = textwrap.wrap(
        safe(one.advice), _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT
    )
    figure = textwrap.wrap(
        safe(one.figure),
        _COLUMNS,
        initial_indent=f"{one.severity:8} {safe(one.what):23} ",
        subsequent_indent=_INDENT + " " * 24,
    )
    return figure + advice
