"""What the commands share: options, numbers as procps prints them, JSON lines, and the end."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
import signal
import sys
import time
from contextlib import suppress

import memfast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_DAY_S = 86400
KIB = 1024
_PREFIXES = "KMGTPE"


class Failed(Exception):
    """A command that ends with a message and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Messages(argparse.ArgumentParser):
    """A parser that does not pass over a full disk behind --help and --version."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            write(message)  # argparse would pass over a full disk
        else:
            super()._print_message(message, file)


class Parser(Messages):
    """Options of a command that stands in for one of procps: a mistake ends it with 1, not 2."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"memfast {command}", description=description, add_help=False)
        self.add_argument(
            "-V",
            "--version",
            action="version",
            version=f"memfast {command} {memfast.__version__}",
            help="print the version and exit",
        )

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def whole_number(text: str) -> int:
    """Read a number as strtol(3) does to its end."""
    if not re.fullmatch(r"\s*[+-]?[0-9]+", text):
        raise Failed(f"failed to parse argument: '{text}'")
    return int(text)


# ---- printing ----


def scaled(kib: int, exponent: int, si: bool) -> str:
    """Print KiB in the unit of that power of 1024, or of 1000, cut off; exponent 0: bytes."""
    return str(int(kib * KIB / (1000 if si else 1024) ** exponent))


def human(kib: int, si: bool) -> str:
    """Print KiB in the first unit that makes it short: 23Gi, 1.2Gi, 431Mi, 0B."""
    size = kib * KIB
    base, tail = (1000, "") if si else (1024, "i")
    if len(f"{size}B") <= 4:
        return f"{size}B"
    for exponent, prefix in enumerate(_PREFIXES, 1):
        value = size / base**exponent
        for text in (f"{value:.1f}{prefix}{tail}", f"{int(value)}{prefix}{tail}"):
            if len(text) <= 4 + len(tail):
                return text
    return str(size)


# ---- writing, again and again ----


def write(text: str) -> None:
    """Write to standard output at once: what is shown is meant to be seen, or piped, now."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk
        abandon_output()
        raise Failed(f"write error: {error.strerror}") from None


def printable(text: str) -> str:
    """Put a question mark for each byte that a terminal might obey, as procps does."""
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else "?" for byte in os.fsencode(text))


def write_json(value: object) -> None:
    """Write one object on a line of its own."""
    write(json.dumps(value) + "\n")


def repeat(show: Callable[[], None], seconds: float, count: int | None, between: str = "") -> None:
    """Show, sleep, show: *count* times or for ever."""
    shown = 0
    while True:
        show()
        shown += 1
        if count is not None and shown >= count:
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _DAY_S))
        write(between)


# ---- the end ----


def abandon_output() -> None:
    """Lead standard output nowhere: what it still holds cannot be written at exit either."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def die_of(number: signal.Signals) -> int:
    """End as a program in C does, by the signal: a shell that loops over us then stops too."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number  # blocked or ignored


def complain(command: str, message: str, status: int = 1) -> int:
    """Print what is wrong to standard error and return the exit status."""
    if sys.stderr is not None:
        print(f"memfast {command}: {message}", file=sys.stderr)
    return status


def run(command: str, body: Callable[[], int]) -> int:
    """Run a command to its end, whatever ends it, and return the exit status."""
    if sys.stdout is None:  # closed by who started us: >&-
        return complain(command, f"write error: {os.strerror(errno.EBADF)}")
    if isinstance(sys.stdout, io.TextIOWrapper):  # names need not be of any encoding
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        try:
            status = body()
        finally:
            sys.stdout.flush()  # also after --help, which exits
    except Failed as failed:
        return complain(command, str(failed), failed.status)
    except KeyboardInterrupt:
        return die_of(signal.SIGINT)
    except BrokenPipeError:
        abandon_output()
        return die_of(signal.SIGPIPE)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # a full disk behind standard output
            abandon_output()
        return complain(command, error.strerror or str(error))
    return status
