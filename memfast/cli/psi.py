"""``memfast psi``: how long tasks stood still for want of memory, disk or CPU; and wait for it."""

from __future__ import annotations

import re
import select
import time
from contextlib import ExitStack

import memfast
from memfast import stats
from memfast.cli import output
from memfast.cli.output import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_KINDS = ("memory", "io", "cpu", "irq")
_DAY_S = 86400
_TIMED_OUT = 124  # as timeout(1)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}


def _parser() -> argparse.ArgumentParser:
    parser = output.Parser(
        "psi", "Show which share of the time tasks stood still, in per cent, and how long in all."
    )
    add = parser.add_argument
    add("kind", nargs="?", choices=_KINDS, help="default: all; with --watch memory")
    add("--cgroup", metavar="DIR", help="of the tasks of a cgroup of version 2")
    add(
        "--watch",
        action="append",
        metavar="STALL/WINDOW",
        help="wait, and print a line each time tasks stood still for STALL of WINDOW: 150ms/2s;"
        " may be given more than once",
    )
    add("--full", action="store_true", help="watch for all tasks standing still, not for some")
    add("--count", type=int, metavar="N", help="end after N events")
    add("--timeout", metavar="TIME", help="end after that time: exit status 124")
    add(
        "--json",
        action="store_true",
        help="an object; with --watch one for each event, a line each",
    )
    add("-h", "--help", action="help", help="show this and exit")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.watch:
        if options.count is not None and options.count < 1:
            parser.error("--count: a number above 0")
        try:
            return _watch(options)
        except ValueError as error:
            raise Failed(str(error)) from None
    if options.full or options.count is not None or options.timeout is not None:
        parser.error("--full, --count and --timeout go with --watch")
    _read(options)
    return 0


def _seconds(text: str) -> float:
    match = re.fullmatch("([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(us|ms|s|)", text)
    if not match:
        raise Failed(f"'{text}' is no time: 150ms, 2s, 0.5")
    return float(match[1].replace(",", ".")) * _SECONDS[match[2]]


# ---- once ----


def _read(options: argparse.Namespace) -> None:
    found = []
    kinds: tuple[Any, ...] = (options.kind,) if options.kind else _KINDS
    for kind in kinds:
        try:
            found.append(stats.pressure(kind, options.cgroup))
        except memfast.NotSupportedError:
            if options.kind or kind == "memory":  # without memory there is none at all
                raise
    if options.json:
        output.write_json({one.kind: _lines(one) for one in found})
        return
    lines = [f"{'':12}{'avg10':>8}{'avg60':>8}{'avg300':>8}{'seconds':>16}\n"]
    for one in found:
        for name, stall in (("some", one.some), ("full", one.full)):
            if stall is not None:
                means = f"{stall.avg10:8.2f}{stall.avg60:8.2f}{stall.avg300:8.2f}"
                lines.append(f"{one.kind:7}{name:5}{means}{stall.total:16.6f}\n")
    output.write("".join(lines))


def _lines(one: stats.Pressure) -> dict[str, Any]:
    return {
        name: None if stall is None else stall._asdict()
        for name, stall in (("some", one.some), ("full", one.full))
    }


# ---- again and again ----


def _watch(options: argparse.Namespace) -> int:
    """Print an event a line until there were enough of them, or the time is over."""
    kind: Any = options.kind or "memory"
    end = None if options.timeout is None else time.monotonic() + _seconds(options.timeout)
    ready, seen = select.poll(), 0
    with ExitStack() as open_watches:
        watches: dict[int, tuple[str, stats.PressureWatch]] = {}
        for spec in options.watch:
            stall, slash, window = spec.partition("/")
            if not slash:
                raise Failed(f"--watch '{spec}': STALL/WINDOW, as in 150ms/2s")
            watch = open_watches.enter_context(
                stats.pressure_watch(
                    kind,
                    _seconds(stall),
                    _seconds(window),
                    full=options.full,
                    cgroup=options.cgroup,
                )
            )
            watches[watch.fileno()] = spec, watch
            ready.register(watch.fileno(), select.POLLIN)
        while options.count is None or seen < options.count:
            left = None if end is None else max(end - time.monotonic(), 0)
            fired = ready.poll(None if left is None else min(left, _DAY_S) * 1000)
            if not fired and (left is None or left <= _DAY_S):
                return _TIMED_OUT
            for fd, _ in fired[: None if options.count is None else options.count - seen]:
                spec, watch = watches[fd]
                _print_event(options, spec, watch.now())
                seen += 1
    return 0


def _print_event(options: argparse.Namespace, spec: str, event: stats.PressureEvent) -> None:
    line = "full" if options.full else "some"
    pressure = event.pressure
    if options.json:
        head = {"time": event.time, "kind": pressure.kind, "line": line, "watch": spec}
        output.write_json({**head, **_lines(pressure)})
        return
    stall = pressure.full if options.full else pressure.some
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    text = f"{when} {pressure.kind} {line} {spec}"
    if stall is not None:
        text += f" avg10={stall.avg10:.2f} avg60={stall.avg60:.2f} total={stall.total:.6f}s"
    output.write(text + "\n")
