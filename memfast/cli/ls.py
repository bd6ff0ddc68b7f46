"""``memfast ls``: memfast's objects, whose they are, and whether they live."""

from __future__ import annotations

import memfast
from memfast.cli import output
from memfast.cli.listing import age_text, maybe, safe, size_text, user_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_HEAD = "KIND     STATE    SIZE USER     CREATOR ATTACHED         ID  AGE NAME"


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "ls",
        "List memfast's channels, maps and segments of this user (root: of all users):"
        " whose they are, and whether anybody lives who has them. Changes nothing.",
    )
    parser.add_argument("--json", action="store_true", help="one object, sizes in bytes")
    parser.add_argument("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    found = memfast.objects()
    if options.json:
        output.write_json({"objects": [one._asdict() for one in found]})
        return 0
    if not found:
        output.write("memfast has nothing in memory here.\n")
        return 0
    dead = sum(one.state == "dead" for one in found)
    lines = [_HEAD, *(line for one in found for line in _lines(one))]
    if dead:
        lines.append(f"{dead} of {len(found)} left by the dead; to remove: memfast reap")
    output.write("\n".join(lines) + "\n")
    return 0


def _lines(one: memfast.Object) -> list[str]:
    key = "" if one.key is None else f"key {one.key:#x}"
    name = one.path if one.kind == "foreign" else one.name
    row = (
        f"{safe(one.kind):8} {one.state:7} {size_text(one.size):>5} {user_text(one.uid):8}"
        f" {maybe(one.creator_pid):>7} {maybe(one.nattch):>8} {maybe(one.id):>10}"
        f" {age_text(one.age):>4} {safe(name or key or '-')}"
    )
    return [row, f"         {one.why}"] if one.state == "unknown" else [row]
