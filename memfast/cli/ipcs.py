"""``memfast ipcs``: ipcs(1) of util-linux, to the byte; any columns; and JSON in bytes."""

from __future__ import annotations

from memfast import sysv
from memfast.cli import ipcs_more, ipcs_tables, output
from memfast.cli.output import Failed
from memfast.cli.swaps import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_KINDS = ("msg", "shm", "sem")  # in the order of ipcs(1)
_JSON_NAMES = {"msg": "message_queues", "shm": "segments", "sem": "semaphores"}
_COLUMNS = {
    "msg": ("owner", "perms", *sysv.MessageQueue._fields),
    "shm": ("owner", "perms", "status", *sysv.SegmentInfo._fields),
    "sem": ("owner", "perms", *sysv.SemaphoreArray._fields),
}


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser("ipcs", "Show segments, semaphores and message queues of System V.")
    add = parser.add_argument
    add("-m", "--shmems", action="append_const", const="shm", dest="kinds", help="segments")
    add("-q", "--queues", action="append_const", const="msg", dest="kinds", help="message queues")
    add("-s", "--semaphores", action="append_const", const="sem", dest="kinds", help="semaphores")
    add("-a", "--all", action="store_true", help="all three, as without any of them")
    add("-i", "--id", metavar="ID", help="all about one; with -m, -q or -s")
    views = (("-t", "--time", "times"), ("-p", "--pid", "process ids"), ("-c", "--creator", "who"))
    more = (("-l", "--limits", "the limits"), ("-u", "--summary", "what is in use"))
    for short, word, help_line in views + more:
        add(short, word, action="store_const", const=word[2:], dest="view", help=help_line)
    add("-b", "--bytes", action="store_const", const="bytes", dest="unit", help="sizes in bytes")
    add("--human", action="store_const", const="human", dest="unit", help="sizes as 1.5M")
    add(
        "-o",
        "--output",
        metavar="COLUMNS",
        help="these, of one kind; of segments also rss,swap,attached (pids),unseen",
    )
    add("--json", action="store_true", help="one object; bytes, seconds and numbers")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    asked = set(options.kinds or ())
    kinds = [kind for kind in _KINDS if options.all or not asked or kind in asked]
    if options.id is not None:
        if len(kinds) != 1:
            raise Failed("when using an ID, a single resource must be specified")
        return _show_one(options, kinds[0])
    if options.output is not None:
        return _show_columns(options, kinds)
    if options.view in ("limits", "summary"):
        output.write(ipcs_more.sums(options, kinds))
    elif options.json:
        output.write_json(
            {_JSON_NAMES[kind]: [*map(ipcs_more.as_json, _read(kind))] for kind in kinds}
        )
    else:
        tables = [ipcs_tables.table(options, kind, _read(kind)) for kind in kinds]
        output.write("\n" + "".join(f"{table}\n" for table in tables))
    return 0


def _read(kind: str, columns: Sequence[str] = ()) -> list[Any]:
    """List the objects of a kind, with what costs extra only if a column shows it."""
    if kind == "msg":
        return sysv.message_queues()
    if kind == "sem":
        return sysv.semaphores()
    return sysv.segments(
        rss="rss" in columns or "swap" in columns,
        attached="attached" in columns or "unseen" in columns,
    )


# ---- one object, any columns ----


def _show_one(options: argparse.Namespace, kind: str) -> int:
    try:
        number = int(options.id)
    except ValueError:
        raise Failed(f"failed to parse id argument: '{options.id}'") from None
    one = next((one for one in _read(kind) if one.id == number), None)
    if one is None:
        raise Failed(f"id {number} not found")
    output.write(ipcs_more.details(options, kind, one))
    return 0


def _show_columns(options: argparse.Namespace, kinds: list[str]) -> int:
    if len(kinds) != 1:
        raise Failed("-o is for one kind: -m, -q or -s")
    kind = kinds[0]
    columns = options.output.lower().split(",")
    for name in columns:
        if name not in _COLUMNS[kind]:
            raise Failed(f"unknown column: {name}; there are {', '.join(_COLUMNS[kind])}")
    rows = [_cells(one, columns) for one in _read(kind, columns)]
    if options.json:
        output.write_json({_JSON_NAMES[kind]: rows})
        return 0
    texts = [{name: _text(options, name, row[name]) for name in columns} for row in rows]
    texts.insert(0, {name: name.upper() for name in columns})
    widths = {name: max(len(text[name]) for text in texts) for name in columns}
    for text in texts:
        output.write(" ".join(f"{text[name]:<{widths[name]}}" for name in columns).rstrip() + "\n")
    return 0


def _cells(one: Any, columns: Sequence[str]) -> dict[str, Any]:
    named = one._asdict() | {"owner": ipcs_tables.user(one.uid), "perms": f"{one.mode:o}"}
    if "status" in columns:
        named["status"] = " ".join(["dest"] * one.dest + ["locked"] * one.locked)
    return {name: named[name] for name in columns}


def _text(options: argparse.Namespace, name: str, value: Any) -> str:
    if name == "key":
        return f"0x{value:08x}"
    if name == "attached":
        return ",".join(map(str, value))
    if name.endswith("_time"):
        return ipcs_tables.when(value)
    if options.unit == "human" and name in ("size", "rss", "swap", "used_bytes", "limit_bytes"):
        return human(value)
    return str(value)
