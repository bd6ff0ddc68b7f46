"""The command ``memfast demo``, run as a program."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import support

WATCHDOG = 50


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "memfast", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False)


@pytest.mark.parametrize("size", [1, 100, 65_536, 3_000_001])
def test_a_file_crosses_and_a_kill_leaves_nothing(tmp_path: Path, size: int) -> None:
    """Any size: equal hashes, every line of the story, 80 columns, exit status 0."""
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    done = demo(str(path))
    assert done.returncode == 0, done.stderr
    assert f"{size:,} bytes" in done.stdout
    assert hashlib.sha256(data).hexdigest()[:32] in done.stdout
    assert re.search(r"dest", done.stdout)
    assert re.search(r"told after +[\d.]+ ms", done.stdout)
    assert re.search(r"left in the kernel +nothing", done.stdout)
    lines = done.stdout.splitlines()[1:]  # the first holds the path
    assert max(map(len, lines)) <= 80
    assert done.stderr == ""


def test_the_default_is_a_file_of_this_python() -> None:
    """Without an argument there is something real to send."""
    done = demo()
    assert done.returncode == 0, done.stderr
    assert "All of it held." in done.stdout


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "unreadable"])
def test_a_file_that_cannot_be_sent_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    """Exit status 1, the path, and why; no traceback."""
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "unreadable":
        path = Path("/proc/self/mem")  # may be opened, may not be read from its start
    done = demo(str(path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr


def test_the_command_says_what_there_is() -> None:
    """--help and --version exit with 0; no command and an unknown one with 2."""
    run = [sys.executable, "-P", "-m", "memfast"]
    for words, status in ((["--help"], 0), (["--version"], 0), ([], 2), (["nonsense"], 2)):
        done = subprocess.run([*run, *words], capture_output=True, text=True, check=False)
        assert done.returncode == status, words


@pytest.mark.parametrize("example", sorted((support.ROOT / "examples").glob("*.py")))
def test_each_example_runs(example: Path) -> None:
    """As a program of its own, with no argument, in 80 columns."""
    done = subprocess.run(
        [sys.executable, "-P", str(example)],
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
