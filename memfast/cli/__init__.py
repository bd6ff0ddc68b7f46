"""The command ``memfast``: one file a command; no logic that the library lacks."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

import memfast
from memfast.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

# Command -> what it does. Each is the module of its name, imported when it is asked for.
_COMMANDS = {
    "demo": "send a file between two processes, kill one, and show what is left",
    "free": "memory and swap: free(1)",
    "vmstat": "memory, swapping, disks and CPU, again and again: vmstat(8)",
    "pmap": "the mappings of a process: pmap(1)",
    "swaps": "the swap areas: swapon --show",
    "ipcs": "segments, semaphores and message queues of System V: ipcs(1)",
    "ipcrm": "remove them: ipcrm(1), and by owner, size or abandonment",
    "limits": "the limits of System V shared memory: show and set",
    "psi": "time that is lost because memory, disk or CPU is short",
    "ls": "memfast's channels, maps and segments: whose, and alive or dead",
    "reap": "remove what the dead have left of them",
    "doctor": "what on this machine stands in the way, and what to do",
}


def _parser() -> tuple[output.Messages, argparse._SubParsersAction[output.Messages]]:
    parser = output.Messages(
        prog="memfast",
        description="Share memory between processes, talk through it, see it, control it.",
    )
    parser.add_argument("--version", action="version", version=f"memfast {memfast.__version__}")
    return parser, parser.add_subparsers(dest="command", metavar="COMMAND", required=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = words[0] if words else ""
    if command in _COMMANDS and command != "demo":
        return output.run(
            command, lambda: int(import_module(f"memfast.cli.{command}").run(words[1:]))
        )
    return output.run(command or "memfast", lambda: _run(words, command))


def _run(words: Sequence[str], command: str) -> int:
    parser, commands = _parser()
    for name, help_line in _COMMANDS.items():
        if name == command:
            import_module(f"memfast.cli.{name}").add_parser(commands)
        else:
            commands.add_parser(name, help=help_line)
    options = parser.parse_args(words)
    if "run" not in options:  # memfast -- free
        return main([options.command])
    return int(options.run(options))
