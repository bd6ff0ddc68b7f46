"""``memfast vmstat`` beside vmstat(8) of procps 4 on the same files of /proc, to the byte."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import Any

import pytest
import support

from memfast import cli, stats
from memfast.cli import vmstat as command

FIXTURES = support.ROOT / "tests" / "fixtures"
PROC = ("stat", "vmstat", "meminfo", "diskstats", "slabinfo")
FLAGS = [
    *("", "-a", "-w", "-n", "-t", "-w -a -t", "-S k", "-S m", "-S M", "-S b", "-w -a -S B"),
    *("-s", "-s -S k", "-s -S m", "-s -S M", "-s -S b", "-s -a", "-f", "-f -s", "-f 1 2"),
    *("-d", "-d -w", "-d -t", "-d -w -t -n", "-D", "-D -w", "-p vda", "-p /dev/vda1"),
    *("-p nvme9n1p15", "-p vda 1 1"),
    *("-m", "-m -n", "-m -S M", "1 0", "1 1", "-y 1 0", "-S kM", "+1 1", "-d 1 1", "-m 1 1"),
]
WRONG = [
    *("0", "abc", "1.5", "1x", "99999999999", "-- -1", "1 abc", "-S x", "-S ''", "-p nonesuch"),
    *("-p ''", "-p /dev/", "-p /x/vda"),
]
USAGE = ["1 1 1", "-z", "--nonesuch", "-p", "-s -d", "-d -D", "-s -m", "-p vda -d"]

# Run in a mount namespace of its own, where /proc says what the fixtures say.
BESIDE = """
import contextlib, io, json, shlex, subprocess, sys
files, flags = json.loads(sys.argv[1])
# What is in /sys/block is a disk, what is not is a partition.
subprocess.run("mount -t tmpfs none /sys/block; mkdir /sys/block/vda /sys/block/loop0",
               shell=True, check=True)
for path, name in files:
    subprocess.run(["mount", "--bind", path, f"/proc/{name}"], check=True)
script = 'while read -r line; do eval "vmstat $line" 2>&1; echo "=$?"; done'
from memfast.cli import main

for _ in range(3):  # the second may change between
    theirs = subprocess.run(["sh", "-c", script], input="\\n".join(flags) + "\\n",
                            capture_output=True, text=True, check=True).stdout
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        for words in flags:
            print(f"={main(['vmstat', *shlex.split(words)])}")
    ours = text.getvalue().replace("memfast vmstat:", "vmstat:")
    if ours == theirs:
        break
for words, his, our in zip(flags, theirs.split("\\n="), ours.split("\\n=")):
    if his != our:
        sys.exit(f"vmstat {words}\\n{his}\\nmemfast vmstat {words}\\n{our}")
print(theirs.count("\\n=") * (ours == theirs))
"""

pytestmark = [
    pytest.mark.skipif(
        "procps-ng 4.0.2"
        not in subprocess.run(["vmstat", "-V"], capture_output=True, text=True, check=False).stdout,
        reason="needs vmstat(8) of procps 4.0.2",
    )
]


@pytest.fixture(scope="module", autouse=True)
def what_stays_open() -> None:
    """Open the files of /proc that a process keeps, so that no test is blamed for it."""
    stats.activity()
    stats.disks()


def vmstat(*words: str, program: str = "memfast", **options: Any) -> Any:
    """Run ours, or theirs, as a program."""
    command = [program] if program == "vmstat" else [sys.executable, "-m", "memfast", "vmstat"]
    return subprocess.run(
        [*command, *words],
        **{"capture_output": True, "text": True, "timeout": 30, "check": False, **options},
    )


def beside(system: str, flags: list[str]) -> None:
    files = [(str(FIXTURES / "vmstat" / system / name), name) for name in PROC]
    answer = support.in_namespace("m", BESIDE, json.dumps([files, flags]))
    assert answer.split() == [str(len(flags))]


@support.need_root
@pytest.mark.parametrize("system", ["busy", "large", "fresh"])
def test_every_flag_prints_what_vmstat_prints(system: str) -> None:
    """Rows since boot, tables of counters, disks and slabs: the same bytes and exit status."""
    beside(system, FLAGS)


@support.need_root
def test_mistakes_have_the_words_of_vmstat() -> None:
    """A wrong delay, count, unit or disk: the same message and exit status."""
    beside("busy", WRONG)


@pytest.mark.parametrize("words", USAGE)
def test_a_misuse_ends_with_1_and_the_usage(words: str) -> None:
    """As vmstat(8) does: nothing on standard output."""
    for program in ("vmstat", "memfast"):
        done = vmstat(*words.split(), program=program)
        assert done.returncode == 1
        assert done.stdout == ""
        assert re.search("usage:", done.stderr, re.IGNORECASE)


DELTA = """
import subprocess, sys, time
cpu, words, *program = sys.argv[1].split("|")
def texts(cpu, scale):
    return {
        "stat": f"cpu  {cpu}\\nintr {1000 + 503 * scale} 1\\nctxt {2000 + 701 * scale}\\nbtime 1\\n"
                "processes 4\\nprocs_running 5\\nprocs_blocked 3\\n",
        "vmstat": f"pgpgin {100 + 1001 * scale}\\npgpgout {200 + 2003 * scale}\\n"
                  f"pswpin {300 + 2700 * scale}\\npswpout {400 + 3 * scale}\\n",
        "meminfo": open("/proc/meminfo").read(),
    }
import pathlib, tempfile
with tempfile.TemporaryDirectory() as folder:
    for name, text in texts("1000 200 300 4000 50 6 7 80 600 100", 0).items():
        path = pathlib.Path(folder, name)
        path.write_text(text)
        subprocess.run(["mount", "--bind", path, f"/proc/{name}"], check=True)
    tools = [subprocess.Popen([*tool, *words.split()], stdout=subprocess.PIPE, text=True)
             for tool in (["vmstat"], [sys.executable, "-m", "memfast", "vmstat"])]
    for tool in tools:  # both have read the first once their first row is there
        for _ in range(3):
            print(tool.stdout.readline(), end="")
    for name, text in texts(cpu, 1).items():
        pathlib.Path(folder, name).write_text(text)
    print(*(tool.communicate()[0] for tool in tools), sep="")
    for name in texts(cpu, 1):
        subprocess.run(["umount", f"/proc/{name}"], check=True)
"""


@support.need_root
@pytest.mark.parametrize(
    ("cpu", "words"),
    [
        ("1100 220 330 4040 55 16 17 90 650 110", "-w 1 2"),
        ("1100 220 330 4040 45 16 17 90 650 110", "-S k 2 2"),  # iowait ran back
        ("1000 200 300 4000 50 6 7 80 600 100", "-S M -a 1 2"),  # nothing ran
        ("1000 200 300 4000 50 6 7 380 600 100", "3 2"),
    ],
)
def test_what_happened_between_two_rows(cpu: str, words: str) -> None:
    """Events a second and CPU shares between two readings, rounded as vmstat(8) rounds them."""
    lines = support.in_namespace("m", DELTA, f"{cpu}|{words}").splitlines()
    theirs, ours = [*lines[:3], lines[6]], [*lines[3:6], lines[7]]
    assert ours == theirs


def test_a_counter_that_began_anew_counts_from_there() -> None:
    """Where vmstat(8) prints 4294967246."""
    assert command.since(50, 100) == 50
    assert command.since(150, 100) == 50


def in_terminal(rows: int, *command: str) -> str:
    """Run a command in a terminal of so many rows and return what it wrote there."""
    leader, terminal = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    written = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal) as child:
        os.close(terminal)
        try:
            while more := os.read(leader, 65536):
                written += more
        except OSError:
            pass  # EIO: the terminal has no other end any more
        os.close(leader)
        assert child.wait() == 0
    return written.decode()


@support.need_root
@pytest.mark.parametrize("rows", [0, 3, 4, 10, 50])
def test_the_header_comes_again_with_each_page_of_the_terminal(rows: int) -> None:
    """At the same lines as vmstat(8)'s."""

    def headers(*command: str) -> list[int]:
        lines = in_terminal(rows, *command, "-m").splitlines()
        return [number for number, line in enumerate(lines) if line.startswith("Cache  ")]

    assert headers(sys.executable, "-m", "memfast", "vmstat") == headers("vmstat")


def test_rows_come_again_and_again() -> None:
    """A row for each delay, the first left out with -y, one header."""
    lines = vmstat("-y", "1", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["procs", "r"]
    assert len(lines) == 4


def test_a_reader_that_goes_ends_it_quietly() -> None:
    """``memfast vmstat 1 | head -1``: killed by SIGPIPE, as vmstat(8) is."""
    command = [sys.executable, "-m", "memfast", "vmstat", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith(b"procs")
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == -13


def test_json_has_the_figures_of_the_library() -> None:
    """Bytes, snake_case, one object a line."""
    lines = vmstat("--json", "1", "2").stdout.splitlines()
    for line in lines:
        row = json.loads(line)
        assert all(re.fullmatch("[a-z_]+", key) for key in row)
        assert abs(row["free"] - stats.free().mem.free) < stats.free().mem.total // 4
        assert 0 <= sum(row["cpu_percent"].values()) - row["cpu_percent"]["guest"] <= 110
    assert len(lines) == 2
    assert json.loads(lines[1])["seconds"] == pytest.approx(1, abs=0.5)
    totals = json.loads(vmstat("-s", "--json").stdout)
    assert totals["total_memory"] == stats.free().mem.total
    assert totals["boot_time"] == stats.activity().boot_time
    names = [disk["name"] for disk in json.loads(vmstat("-d", "--json").stdout)["disks"]]
    assert names == [disk.name for disk in stats.disks() if not disk.partition]


@support.need_root
def test_slabs_are_for_root(capfd: pytest.CaptureFixture[str]) -> None:
    """Another user is told why, with exit status 1."""

    def as_nobody() -> None:
        os.setresuid(65534, 65534, 65534)
        os._exit(cli.main(["vmstat", "-m"]))

    with support.forked(as_nobody) as child:
        assert support.exit_status(child) == 1
    assert "only root may" in capfd.readouterr().err
