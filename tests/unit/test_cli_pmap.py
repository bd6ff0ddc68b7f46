"""``memfast pmap`` beside pmap(1) of procps 4 on the same stopped process, to the byte."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import support

from memfast import cli, stats
from memfast.cli import pmap as command

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL_THREAD = 2  # kthreadd, in the first pid namespace
ABSENT = (1 << 22) - 1  # below no PID_MAX_LIMIT; never given out here
FLAGS = [
    *("", "-x", "-d", "-q", "-p", "-X", "-XX", "-q -x", "-q -d", "-p -x", "-p -d", "-x -x"),
    *("-q -X", "-q -XX", "-p -X", "-X -A 0", "-A 0", "-A 0,7f", "-x -A 0", "-d -A 0,", "-A ,5"),
]

# A process with one mapping of each kind, and a command line that cannot be printed as it is.
CHILD = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = libc.shmat.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mmap(None, 20 << 30, 0, 0x4022, -1, 0)  # 20 GiB that nobody may touch
keep = [mmap.mmap(-1, 1 << 20)]  # shared, of no file
keep[0][:5000] = bytes(5000)
for name, flags in (("a file\\nof two lines", mmap.MAP_SHARED), ("gone", mmap.MAP_PRIVATE)):
    path = os.path.join(sys.argv[1], name)
    with open(path, "w+b") as file:
        file.write(bytes(100_000))
        file.flush()
        keep.append(mmap.mmap(file.fileno(), 0, flags=flags))
    keep[-1][:9] = b"123456789"
os.unlink(path)
memfd = os.memfd_create("a memfd")
os.ftruncate(memfd, 8192)
keep.append(mmap.mmap(memfd, 8192))
for key in (0, 0x1234):
    segment = libc.shmget(key, 65536, 0o1600)
    libc.shmat(segment, None, 0)
    libc.shmctl(segment, 0, None)  # IPC_RMID
print("ready", flush=True)
sys.stdin.read()
"""

# Theirs and ours in a mount namespace where smaps stands still: pages shared with us do not.
BESIDE = """
import contextlib, difflib, io, json, subprocess, sys
pid, smaps, flags = json.loads(sys.argv[1])
subprocess.run(["mount", "--bind", smaps, f"/proc/{pid}/smaps"], check=True)
from memfast.cli import main
for words in flags:
    theirs = subprocess.run(["pmap", *words.split(), str(pid)], capture_output=True, text=True)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = main(["pmap", *words.split(), str(pid)])
    if (theirs.stdout, theirs.returncode) != (text.getvalue(), status):
        sides = theirs.stdout.splitlines(), text.getvalue().splitlines()
        sys.exit("\\n".join([words, *difflib.unified_diff(*sides, "theirs", "ours", n=0)]))
print(len(flags))
"""

pytestmark = [
    pytest.mark.skipif(
        "procps-ng 4.0.2"
        not in subprocess.run(["pmap", "-V"], capture_output=True, text=True, check=False).stdout,
        reason="needs pmap(1) of procps 4.0.2",
    )
]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[int]:
    """Start the process with all those mappings, stop it, and give its id."""
    arguments = (tmp_path, "two words", "two\nlines", "tab\there", "")
    with support.python_child(CHILD, *arguments) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGSTOP)
        yield child.pid


def pmap(*words: object) -> tuple[str, int]:
    """Run theirs and return what it printed and its exit status."""
    done = subprocess.run(
        ["pmap", *map(str, words)], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout, done.returncode


def ours(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, int]:
    """Run ours in this process and return what it printed and its exit status."""
    capsys.readouterr()
    try:
        status = cli.main(["pmap", *map(str, words)])
    except SystemExit as end:  # argparse
        status = int(str(end.code))
    return capsys.readouterr().out, status


@support.need_root
def test_every_flag_prints_what_pmap_prints(process: int, tmp_path: Path) -> None:
    """Files, a removed one, shared memory, System V segments, a stack, 20 GiB of nothing."""
    smaps = tmp_path / "smaps"
    smaps.write_bytes(Path(f"/proc/{process}/smaps").read_bytes())
    first = stats.vmas(process)[3]
    flags = [
        *FLAGS,
        *(f"-A {first.start:x}", f"-A {first.start + 1:x},", f"-A 0x{first.end:x}"),
        *(f"-x -A ,{first.end:x}", f"-d -A {first.start:x},{first.end - 1:X}"),
    ]
    answer = support.in_namespace("m", BESIDE, json.dumps([process, str(smaps), flags]))
    assert answer.split() == [str(len(flags))]


def test_the_sums_are_of_what_is_shown(process: int, capsys: pytest.CaptureFixture[str]) -> None:
    """With -x -A too, where pmap(1) adds in what lies below the range."""
    low = stats.vmas(process)[3].start
    rows = [line.split() for line in ours(capsys, "-x", "-A", f"{low:x},", process)[0].splitlines()]
    shown, total = rows[2:-2], rows[-1]
    for column in (1, 2, 3):
        assert int(total[column + 1]) == sum(int(row[column]) for row in shown)
    assert int(shown[0][0], 16) == low


@support.need_root
def test_keys_that_another_kernel_prints_are_columns_too(process: int, tmp_path: Path) -> None:
    """-X and -XX: of a kernel with protection keys."""
    smaps = tmp_path / "smaps"
    text = Path(f"/proc/{process}/smaps").read_text()
    smaps.write_text(text.replace("VmFlags:", "ProtectionKey:         7\nVmFlags:"))
    flags = ["-X", "-XX", "-q -X"]
    answer = support.in_namespace("m", BESIDE, json.dumps([process, str(smaps), flags]))
    assert answer.split() == [str(len(flags))]


def test_one_of_everything_was_there(process: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison above was of something."""
    text, status = ours(capsys, process)
    assert status == 0
    for name in (
        *("20971520K -----   [ anon ]", "[ stack ]", "[ shmid=0x", "gone (deleted)"),
        *("zero (deleted)", "a file\\012of two lines", "memfd:a memfd (deleted)", "two words two"),
    ):
        assert name in text
    assert text == pmap(process)[0]


@support.need_root
@pytest.mark.parametrize("flag", ["", "-x", "-d", "-X", "-q"])
def test_a_thread_of_the_kernel_and_a_zombie_have_no_mappings(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their name in brackets, an empty table, exit status 0."""
    with support.forked(lambda: None) as zombie:
        support.until(lambda: "Z" in Path(f"/proc/{zombie}/stat").read_text().rpartition(")")[2])
        for pid in KERNEL_THREAD, zombie:
            words = [flag, pid] if flag else [pid]
            assert ours(capsys, *words) == pmap(*words)
        assert "<defunct>" in ours(capsys, zombie)[0]


def test_the_exit_status_says_who_was_not_found(
    process: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """42 where one was not found, and the others are shown in the order given."""
    for pids in ((ABSENT,), (process, ABSENT), (ABSENT, process), (process, process)):
        assert ours(capsys, *pids) == pmap(*pids)
    assert ours(capsys, f"/proc/{process}") == pmap(f"/proc/{process}")


@support.need_root
def test_not_permitted_is_told(process: int, capfd: pytest.CaptureFixture[str]) -> None:
    """The title as pmap(1) prints it, exit status 1, and the reason that it keeps to itself."""

    def as_nobody(*pids: int) -> str:
        def run() -> None:
            os.setresuid(65534, 65534, 65534)
            os._exit(cli.main(["pmap", *map(str, pids)]))

        capfd.readouterr()
        with support.forked(run) as child:
            status = support.exit_status(child)
        answer = capfd.readouterr()
        return f"{status} {answer.out} {answer.err}"

    stats.command(process)
    command.pmap_wide.table  # noqa: B018  # the modules are loaded: nobody may not read them
    told = as_nobody(process)
    assert told.startswith(f"1 {process}:   ")
    assert len(told.splitlines()) == 2
    assert "PTRACE_MODE_READ" in told
    assert as_nobody(process, ABSENT).startswith("43 ")
    theirs = subprocess.run(["pmap", str(process)], capture_output=True, text=True, user=65534)
    assert (theirs.returncode, theirs.stdout.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        *("", "abc", "0", "12x", "99999999999", "-- -1", "-z 1", "1 x", "-A", "-x -d 1"),
        *("-X -x 1", "-A zz 1", "-A 1,2,3 1", "-A 1,zz 1"),
    ],
)
def test_mistakes_end_with_1_and_print_nothing(words: str) -> None:
    """As pmap(1) does; where it has words of its own, they are the same."""
    run = [sys.executable, "-m", "memfast", "pmap", *words.split()]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    theirs = subprocess.run(["pmap", *words.split()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (theirs.returncode, theirs.stdout) == (1, "")
    if "Usage:" not in theirs.stderr:
        assert done.stderr.replace("memfast pmap:", "pmap:") == theirs.stderr
    else:
        assert "usage:" in done.stderr


def test_json_has_the_figures_of_the_library(
    process: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that smaps says, in bytes, one object for each process."""
    text, status = ours(capsys, "--json", process, process)
    assert status == 0
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert [row["pid"] for row in rows] == [process, process]
    expected = stats.smaps(process)
    assert [row["start"] for row in rows[0]["mappings"]] == [one.start for one in expected]
    assert [row["size"] for row in rows[0]["mappings"]] == [one.end - one.start for one in expected]
    assert [row["vm_flags"] for row in rows[1]["mappings"]] == [one.vm_flags for one in expected]
    assert all(re.fullmatch("[a-z_]+", key) for key in rows[0]["mappings"][0])


def test_names_cannot_drive_a_terminal(tmp_path: Path) -> None:
    """A name may hold any byte; what a terminal might obey is printed as procps prints it."""
    name = tmp_path / "Q\x1b[31mRED\x1b]0;owned\x07\tx\x7f\udcff"
    name.write_bytes(b"x" * 4096)
    code = """
import mmap, sys
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("mapped", flush=True)
sys.stdin.read()
"""
    with support.python_child(code, name) as child:
        child.stdout.readline()
        for flags in ([], ["-x"], ["-d"], ["-p"]):
            theirs = subprocess.run(
                ["pmap", *flags, str(child.pid)], capture_output=True, check=True
            ).stdout
            ours = subprocess.run(
                [sys.executable, "-m", "memfast", "pmap", *flags, str(child.pid)],
                capture_output=True,
                check=True,
            ).stdout
            line = next(line for line in theirs.splitlines() if b"RED" in line)
            assert line in ours.splitlines()
            assert b"\x1b" not in ours
