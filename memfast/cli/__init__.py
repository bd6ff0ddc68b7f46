"""The command ``memfast``: one file a command family; no logic that the library lacks."""

from __future__ import annotations

import argparse
import sys

import memfast
from memfast.cli import demo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="memfast",
        description="Share memory between processes, talk through it, see it, control it.",
    )
    parser.add_argument("--version", action="version", version=f"memfast {memfast.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:  # a full disk behind standard output
        print(f"memfast {options.command}: {error}", file=sys.stderr)
        return 1
