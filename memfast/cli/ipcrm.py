"""``memfast ipcrm``: ipcrm(1) of util-linux, and removal by owner, size or abandonment."""

from __future__ import annotations

import errno
import sys

from memfast import sysv
from memfast.cli import output
from memfast.cli.ipcs_tables import user
from memfast.cli.output import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_NAMES = {"shm": "segment", "msg": "message queue", "sem": "semaphore array"}
_HOW = (
    "nothing is chosen, so nothing is removed: choose by -m ID, -M KEY (-q -Q, -s -S), or by"
    " --owner, --size, --min-size, --orphans (together: all must fit), or say --all=shm;"
    " --dry-run shows what it would do"
)


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "ipcrm",
        "Remove segments, message queues and semaphores of System V. A segment that is attached"
        " is marked: it goes with its last user.",
    )
    add = parser.add_argument
    letters = (("m", "shmem", "shm"), ("q", "queue", "msg"), ("s", "semaphore", "sem"))
    for letter, word, kind in letters:
        for flag, what in (letter, "id"), (letter.upper(), "key"):
            add(
                f"-{flag}",
                f"--{word}-{what}",
                dest=f"{kind}_{what}",
                action="extend",
                nargs="+",
                default=[],
                metavar=what.upper(),
                help=f"{_NAMES[kind]}s by {what}",
            )
    add("--owner", metavar="USER", help="only those of this user: a name or a uid")
    add("--size", type=int, metavar="BYTES", help="only segments of exactly that size")
    add("--min-size", type=int, metavar="BYTES", help="only segments of that size or more")
    add("--orphans", action="store_true", help="only segments nobody has attached, maker dead")
    add("--all", choices=["shm", "msg", "sem"], help="all of a kind; with --owner: all of his")
    add("-n", "--dry-run", action="store_true", help="remove nothing, show what would be")
    add("--yes", action="store_true", help="do not ask")
    add("-v", "--verbose", action="store_true", help="as it does anyway")
    add("--json", action="store_true", help="the outcomes as one object")
    add("words", nargs="*", metavar="shm|msg|sem ID...", help="the old form")
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    typed = [
        (kind, what, word)
        for kind in _NAMES
        for what in ("id", "key")
        for word in getattr(options, f"{kind}_{what}")
    ]
    typed += _old_form(options.words)
    rules = {
        "owner": options.owner,
        "size": options.size,
        "min_size": options.min_size,
        "orphans": options.orphans,
    }
    by_rule = any(value is not None and value is not False for value in rules.values())
    if options.all and typed:
        raise Failed("--all does not go with ids or keys")
    if not typed and not by_rule and not options.all:
        raise Failed(_HOW)
    if typed:
        work = _of_typed(typed)
    else:
        work = {options.all or "shm": ([], [])}
        rules["everything"] = bool(options.all)
    try:
        if not typed and not options.dry_run:
            work = _confirmed(work, rules, options.yes)
        done = {
            kind: sysv.remove(ids, keys, kind=kind, dry_run=options.dry_run, **_fit(rules, ids))
            for kind, (ids, keys) in work.items()
        }
    except ValueError as error:
        raise Failed(str(error)) from None
    return _report(options, done, {_number(word): word for _, what, word in typed if what == "key"})


def _fit(rules: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """Return the rules; ids that were confirmed are not everything."""
    return rules | {"everything": False} if ids else rules


def _number(word: str) -> int:
    """Read a key as strtoul(3) does: decimal, 0x hexadecimal, 0 octal."""
    try:
        if word.startswith("0") and word.isdigit():
            return int(word, 8)
        return int(word, 0)
    except ValueError:
        raise Failed(f"failed to parse argument: '{word}'") from None


def _old_form(words: list[str]) -> list[tuple[str, str, str]]:
    if not words:
        return []
    if words[0] not in _NAMES:
        raise Failed(f"unknown argument: {words[0]}")
    if len(words) == 1:
        raise Failed("not enough arguments")
    return [(words[0], "id", word) for word in words[1:]]


def _of_typed(typed: list[tuple[str, str, str]]) -> dict[Any, tuple[list[int], list[int]]]:
    """Return the ids and keys of each kind; a bad one stops it all before anything is removed."""
    work: dict[Any, tuple[list[int], list[int]]] = {}
    for kind, what, word in typed:
        ids, keys = work.setdefault(kind, ([], []))
        if what == "id":
            ids.append(output.whole_number(word))
            continue
        key = _number(word)
        if key == 0:
            raise Failed(f"illegal key ({word})")
        keys.append(key)
    return work


# ---- asking ----


def _confirmed(
    work: dict[Any, tuple[list[int], list[int]]], rules: dict[str, Any], yes: bool
) -> dict[Any, tuple[list[int], list[int]]]:
    """Show what was chosen by rule and ask; return the ids that were shown, and no others."""
    ((kind, _),) = work.items()
    chosen = sysv.remove(kind=kind, dry_run=True, **rules)
    if not chosen:
        return {}
    if not yes:
        if not sys.stdin.isatty():
            raise Failed(
                f"{_counted(len(chosen), _NAMES[kind])} to remove, and no terminal to ask at: say"
                " --yes, or --dry-run to see what it would do"
            )
        output.write("".join(_line(kind, one) + "\n" for one in chosen))
        output.write(f"remove {_counted(len(chosen), _NAMES[kind])}? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failed("nothing was removed")
    return {kind: ([one.id for one in chosen if one.id is not None], [])}


# ---- reporting ----


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _line(kind: str, one: sysv.Outcome) -> str:
    unit = {"shm": "bytes", "msg": "bytes", "sem": "semaphores"}[kind]
    what = f"{_NAMES[kind]} {one.id} (key {one.key:#010x}, {one.size} {unit}, owner"
    what = f"{one.outcome} {what} {user(one.owner or 0)})"
    if one.outcome in ("marked", "would mark"):
        what += f": {_counted(one.nattch, 'attachment')} left"
    return what


def _complaint(one: sysv.Outcome, keys: dict[int, str]) -> str:
    """Return the words of ipcrm(1) where it has some."""
    name = f"id ({one.id})"
    if one.id is None:
        name = f"key ({keys.get(one.key or 0, one.key)})"
    if one.errno == errno.ENOENT:
        return f"invalid {name}"
    if one.errno in (errno.EPERM, errno.EACCES):
        return f"permission denied for {name}"
    if one.errno in (errno.EINVAL, errno.EIDRM) and "meanwhile" in one.error:
        return f"already removed {name}"
    return f"{name}: {one.error}"


def _report(
    options: argparse.Namespace, done: dict[Any, list[sysv.Outcome]], keys: dict[int, str]
) -> int:
    everything = [one for outcomes in done.values() for one in outcomes]
    failed = sum(one.outcome == "failed" for one in everything)
    if options.json:
        rows = {kind: [one._asdict() for one in outcomes] for kind, outcomes in done.items()}
        output.write_json(rows)
        return 1 if failed else 0
    for kind, outcomes in done.items():
        for one in outcomes:
            if one.outcome == "failed":
                output.complain("ipcrm", _complaint(one, keys))
            else:
                output.write(_line(kind, one) + "\n")
    size = sum(one.size or 0 for one in done.get("shm", ()) if one.outcome != "failed")
    counts = [
        f"{outcome} {sum(one.outcome == outcome for one in everything)}"
        for outcome in ("removed", "marked", "would remove", "would mark", "failed")
        if any(one.outcome == outcome for one in everything)
    ]
    if not everything:
        output.write("nothing fits: nothing to remove\n")
    elif len(everything) > 1:
        output.write(f"{', '.join(counts)}; {size} bytes of segments\n")
    return 1 if failed else 0
