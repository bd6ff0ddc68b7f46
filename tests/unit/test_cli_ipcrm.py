"""``memfast ipcrm``: what it removes, asks, says and refuses; exit 1 if any failed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
import support

from memfast import Segment, sysv

# Segments 0..3: root's of 100 and 5000 bytes, 51000's of 5000 (attached here), nobody's of 70000.
WORLD = """
import ctypes, os, subprocess, sys
from memfast import Segment, shm, sysv
libc = ctypes.CDLL(None)
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
for size, uid, key in [(100, 0, 1), (5000, 0, 10), (5000, 51000, 0), (70000, 65534, 3)]:
    shm.change_segment(libc.shmget(key, size, 0o1600), uid=uid, gid=uid)
held = Segment.open(id=2)
libc.semget(5, 2, 0o1600), libc.semget(7, 1, 0o1600), libc.msgget(6, 0o1600)
sys.stdout.flush()
for words in sys.argv[1].split(";"):
    done = subprocess.run([sys.executable, "-m", "memfast", "ipcrm", *words.split()],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(done.stdout + done.stderr, end="")
    print("exit", done.returncode, [one.id for one in sysv.segments() if not one.dest],
          len(sysv.semaphores()), len(sysv.message_queues()))
"""


def told(words: str) -> list[str]:
    """Run commands one after another in a world of their own; what they said, and what is left."""
    return support.in_namespace("i", WORLD, words).splitlines()


def ends(words: str) -> list[str]:
    """Return the "exit" lines only."""
    return [line for line in told(words) if line.startswith("exit")]


@support.need_root
def test_each_outcome_and_the_totals_are_said() -> None:
    """Removed, marked because somebody has it attached, not there; and sums."""
    assert told("-m 0 2 99 -M 0x3") == [
        "removed segment 0 (key 0x00000001, 100 bytes, owner root)",
        "marked segment 2 (key 0x00000000, 5000 bytes, owner 51000): 1 attachment left",
        "removed segment 3 (key 0x00000003, 70000 bytes, owner nobody)",
        "removed 2, marked 1, failed 1; 75100 bytes of segments",
        "memfast ipcrm: invalid id (99)",
        "exit 1 [1] 2 1",
    ]


@support.need_root
def test_ids_and_keys_as_ipcrm_takes_them() -> None:
    """Several at once, keys in any base, queues and semaphores, the old form."""
    assert ends("-m 0 -m 1;-M 0x3;-q 0;-S 5 7") == [
        "exit 0 [2, 3] 2 1",
        "exit 0 [2] 2 1",
        "exit 0 [2] 2 0",
        "exit 0 [2] 0 0",
    ]
    assert ends("-M 012;-M 10;shm 1 0;sem 0 1;msg 0;-Q 6") == [
        "exit 0 [0, 2, 3] 2 1",
        "exit 1 [0, 2, 3] 2 1",
        "exit 1 [2, 3] 2 1",
        "exit 0 [2, 3] 0 1",
        "exit 0 [2, 3] 0 0",
        "exit 1 [2, 3] 0 0",
    ]


@support.need_root
def test_choices_together_must_all_fit() -> None:
    """A foreign owner's segments are left alone, also when typed."""
    assert ends("--owner root --size 5000 --yes;--owner root --yes;--owner root --yes") == [
        "exit 0 [0, 2, 3] 2 1",
        "exit 0 [2, 3] 2 1",
        "exit 0 [2, 3] 2 1",
    ]
    assert ends("--min-size 5001 --yes;-m 2 0 --owner root") == [
        "exit 0 [0, 1, 2] 2 1",
        "exit 1 [1, 2] 2 1",
    ]
    assert "memfast ipcrm: id (2): left alone: its owner is not uid 0" in told("-m 2 --owner root")


@support.need_root
def test_all_is_spelled_out() -> None:
    """--all=KIND and only so; -a and a bare --all are mistakes."""
    assert ends(
        "-a;--all;--all=pshm;--all=msg --yes;--all=sem --owner 51000 --yes;--all=shm --yes"
    )[3:] == ["exit 0 [0, 1, 2, 3] 2 0", "exit 0 [0, 1, 2, 3] 2 0", "exit 0 [] 2 0"]
    assert ends("-a;--all;--all=pshm;--all=shm -m 0") == ["exit 1 [0, 1, 2, 3] 2 1"] * 4


@support.need_root
@pytest.mark.parametrize("words", ["--owner root", "--all=shm", "--min-size 1"])
def test_without_a_terminal_it_does_not_go_beyond_what_was_typed(words: str) -> None:
    """No one to ask, and no --yes: nothing is removed. --dry-run shows what would be."""
    said = told(f"{words};{words} --dry-run;{words} -n --json")
    assert said[0].endswith("say --yes, or --dry-run to see what it would do")
    assert said[1] == "exit 1 [0, 1, 2, 3] 2 1"
    assert said[2] == "would remove segment 0 (key 0x00000001, 100 bytes, owner root)"
    outcomes = json.loads(said[-2])["shm"]
    assert {one["outcome"] for one in outcomes} <= {"would remove", "would mark"}
    assert said[-1] == "exit 0 [0, 1, 2, 3] 2 1"


@support.need_root
def test_nothing_chosen_removes_nothing() -> None:
    """And it says how to choose."""
    said = told(";--dry-run;--yes")
    assert [line for line in said if line.startswith("exit")] == ["exit 1 [0, 1, 2, 3] 2 1"] * 3
    assert said[0].startswith("memfast ipcrm: nothing is chosen, so nothing is removed: choose by")


@support.need_root
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m 0 x", "failed to parse argument: 'x'"),
        ("-M 0x3 zz", "failed to parse argument: 'zz'"),
        ("-m 0 -M 0x0", "illegal key (0x0)"),
        ("-M 0", "illegal key (0)"),
        ("foo 1", "unknown argument: foo"),
        ("shm", "not enough arguments"),
        ("--owner nosuchuser --yes", "owner 'nosuchuser': there is no such user"),
        ("--all=sem --size 4 --yes", "size, min_size and orphans choose segments"),
    ],
)
def test_a_mistake_removes_nothing(words: str, message: str) -> None:
    """Also what was typed before it; one line, exit 1."""
    said = told(words)
    assert len(said) == 2
    assert said[0].startswith(f"memfast ipcrm: {message}")
    assert said[1] == "exit 1 [0, 1, 2, 3] 2 1"


@support.need_root
def test_orphans_of_the_shell() -> None:
    """What ipcmk(1) left is an orphan; what a living program made, or has attached, is not."""
    made = "import subprocess\nsubprocess.run(['ipcmk', '-M', '300'], check=True)\n"
    said = support.in_namespace("i", made + WORLD, "--orphans --dry-run;--orphans --yes")
    first, *rest = said.splitlines()[1:]
    assert first.startswith("would remove segment 0 (key 0x")
    assert rest[0] == "exit 0 [0, 1, 2, 3, 4] 2 1"
    assert rest[-1] == "exit 0 [1, 2, 3, 4] 2 1"


@support.need_root
def test_no_permission_is_one_line_each() -> None:
    """As another user: exit 1, nothing removed."""
    code = """
import ctypes, os, sys
from memfast import sysv
from memfast.cli import main
ids = [ctypes.CDLL(None).shmget(0, ctypes.c_size_t(10), 0o1600) for _ in range(2)]
main(["ipcrm", "-n", "-m", "0"])  # what it imports is out of the other user's reach
os.setresuid(54321, 54321, 54321)
sys.stderr = sys.stdout
print(main(["ipcrm", "-m", "0", "1"]), len(sysv.segments()))
"""
    assert support.in_namespace("i", code).splitlines()[1:] == [
        "memfast ipcrm: permission denied for id (0)",
        "memfast ipcrm: permission denied for id (1)",
        "failed 2; 0 bytes of segments",
        "1 2",
    ]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1), ("yes", 0), ("Yess", 1)])
def test_at_a_terminal_it_asks(answer: str, left: int) -> None:
    """Only y or yes removes; before that it shows what."""
    if not support.isolated():
        pytest.skip("needs an IPC namespace of the tests' own")
    controller, terminal = pty.openpty()
    try:
        with Segment.create(4096 * 77, key=0x7E57):
            done = subprocess.Popen(
                [sys.executable, "-m", "memfast", "ipcrm", "--size", str(4096 * 77)],
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            os.write(controller, f"{answer}\n".encode())
            said, complained = done.communicate(timeout=30)
            assert "would mark segment" in said
            assert "remove 1 segment? [y/N]" in said
            assert len([one for one in sysv.segments() if one.key == 0x7E57]) == left
            assert done.returncode == left
            assert ("nothing was removed" in complained) is bool(left)
    finally:
        sysv.remove(keys=[0x7E57])
        os.close(controller)
        os.close(terminal)
