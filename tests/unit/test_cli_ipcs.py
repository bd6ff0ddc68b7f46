"""``memfast ipcs`` beside ipcs(1) of util-linux, in an IPC namespace that is empty or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import support

FLAGS = [
    *("", "-a", "-m", "-q", "-s", "-m -s", "-q -m", "-t", "-p", "-c", "-l", "-u", "-b", "--human"),
    *("-m -t", "-m -p", "-m -c", "-m -b", "-m --human", "-q -t", "-q -p", "-q -c", "-q --human"),
    *("-s -t", "-s -p", "-s -c", "-s --human", "-l -b", "-l --human", "-u -b", "-u --human"),
    *("-m -l", "-m -u", "-t -c", "-c -p", "-l -u", "-m -l --human -b", "-m -b --human", "-a -m"),
    *("--shmems --time", "--queues --limits", "--semaphores --creator", "--all --summary"),
]
OBJECTS = [
    *(f"-{kind} -i {index}{unit}" for kind in "mqs" for index in range(3) for unit in ("", " -b")),
    *("-m -i 3 --human", "-q -i 0 --human", "-q -i 1 --human", "-m -i 4", "-m -i 5", "-m -i 6"),
]
# Segments of many sizes; attached, marked, locked, private; of other users; used semaphores and
# queues. Ids count from 0 in a new namespace.
WORLD = """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
RMID, LOCK, CREATE = 0, 11, 0o1000

def made(number):
    assert number >= 0, os.strerror(ctypes.get_errno())
    return number

def attach(id):
    address = libc.shmat(id, None, 0)
    ctypes.memset(address, 1, 1)

for key, size, mode in [(0x1234, 1, 0o600), (0, 4097, 0o644), (-5, 123456789, 0), (7, 1023, 0o777)]:
    made(libc.shmget(key, size, CREATE | mode))
for size in 1, 999, 1000, 1024, 1025, 1075, 1076, 1100, 1536, 102300, 1047000, 1048575, 1 << 30:
    made(libc.shmget(0, size, CREATE | 0o640))
attach(0)
attach(0)
attach(1)
made(libc.shmctl(1, RMID, None))
made(libc.shmctl(3, LOCK, None))
for uid in "65534", "54321":
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "ipcmk", "-p", "0640"]
    for kind in ["-M", "70000"], ["-Q"], ["-S", "2"]:
        subprocess.run([*words, *kind], check=True, stdout=subprocess.DEVNULL)
array = made(libc.semget(0x77, 3, CREATE | 0o600))
made(libc.semctl(array, 1, 16, 5))  # SETVAL

class Operation(ctypes.Structure):
    _fields_ = [("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short)]

made(libc.semop(array, ctypes.byref(Operation(2, 4, 0)), ctypes.c_size_t(1)))
queue = made(libc.msgget(0x88, CREATE | 0o600))
message = (ctypes.c_char * 2008)(1)
for size in 2000, 100:
    made(libc.msgsnd(queue, message, ctypes.c_size_t(size), 0))
made(libc.msgrcv(queue, message, ctypes.c_size_t(2000), ctypes.c_long(0), 0))
"""
BESIDE = """
import contextlib, difflib, io, subprocess, sys
from memfast.cli import main
for words in sys.argv[1].split(","):
    theirs = subprocess.run(["ipcs", *words.split()], capture_output=True, text=True)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = main(["ipcs", *words.split()])
    if (theirs.stdout, theirs.returncode) != (text.getvalue(), status):
        sides = theirs.stdout.splitlines(), text.getvalue().splitlines()
        sys.exit("\\n".join([words, *difflib.unified_diff(*sides, "theirs", "ours", n=0)]))
print(len(sys.argv[1].split(",")))
"""


def need_util_linux() -> None:
    version = subprocess.run(["ipcs", "-V"], capture_output=True, text=True, check=False).stdout
    if "util-linux 2.38" not in version:
        pytest.skip("needs ipcs(1) of util-linux 2.38")


def in_world(words: str, world: str = WORLD) -> str:
    """Run one command in a world of its own and return what it printed."""
    code = f"{world}\nimport sys\nfrom memfast.cli import main\nsys.exit(main(sys.argv[1].split()))"
    return support.in_namespace("i", code, words)


@support.need_root
def test_every_form_prints_what_ipcs_prints() -> None:
    """In a full world, to the byte: each list, time, pid, owner, sum and limit in each unit."""
    need_util_linux()
    answer = support.in_namespace("i", WORLD + BESIDE, ",".join([*FLAGS, *OBJECTS]))
    assert answer.split() == [str(len(FLAGS) + len(OBJECTS))]


@support.need_root
def test_every_form_of_nothing_prints_what_ipcs_prints() -> None:
    """In an empty world too."""
    need_util_linux()
    assert support.in_namespace("i", BESIDE, ",".join(FLAGS)).split() == [str(len(FLAGS))]


@support.need_root
@pytest.mark.parametrize("limit", [1, 1023, 1536, 4 << 40, (1 << 64) - 1, 1 << 61, (1 << 52) + 7])
def test_odd_limits_print_as_ipcs_prints_them(limit: int) -> None:
    """Sums that overflow 64 bits saturate as util-linux lets them."""
    need_util_linux()
    for name in "shmmax", "shmall":
        before = f"echo {limit} > /proc/sys/kernel/{name}"
        assert support.in_namespace("i", BESIDE, "-l,-l -b,-l --human", before=before)


@support.need_root
def test_json_is_what_the_kernel_says() -> None:
    """Numbers, bytes, one object; beside /proc/sysvipc/shm."""
    code = (
        f"{WORLD}\nimport sys\nfrom memfast.cli import main\nmain(['ipcs', '--json'])\n"
        "print(open('/proc/sysvipc/shm').read())"
    )
    first, *table = support.in_namespace("i", code).splitlines()
    shown = json.loads(first)
    assert sorted(shown) == ["message_queues", "segments", "semaphores"]
    names = table[0].split()
    rows = [dict(zip(names, row.split(), strict=True)) for row in table[1:] if row]
    assert len(rows) == len(shown["segments"]) == 19
    for ours, row in zip(shown["segments"], rows, strict=True):
        assert ours["id"] == int(row["shmid"])
        assert ours["key"] == int(row["key"]) & 0xFFFFFFFF
        assert ours["size"] == int(row["size"])
        assert ours["mode"] == int(row["perms"], 8) & 0o777
        assert ours["dest"] is bool(int(row["perms"], 8) & 0o1000)
        assert "rss" not in ours
        assert "attached" not in ours


@support.need_root
def test_columns_show_what_is_asked() -> None:
    """-o: memory and processes too, in text and in JSON."""
    shown = json.loads(in_world("ipcs -m -o id,rss,attached,unseen,status,owner --json"))
    first, second, third = shown["segments"][:3]
    assert (first["id"], first["rss"], len(first["attached"])) == (0, 4096, 1)
    assert second["attached"] == first["attached"]
    assert (second["status"], third["status"]) == ("dest", "")
    assert third["attached"] == []
    assert shown["segments"][18]["owner"] == "54321"
    text = in_world("ipcs -m -o KEY,SIZE,RSS --human")
    assert text.splitlines()[:2] == ["KEY        SIZE    RSS", "0x00001234 1B      4K"]


@support.need_root
def test_one_object_in_json() -> None:
    """-i of an array has the value of each semaphore."""
    shown = json.loads(in_world("ipcs -s -i 2 --json"))
    assert (shown["key"], shown["nsems"]) == (0x77, 3)
    assert [value["value"] for value in shown["semaphores"]] == [0, 5, 4]
    assert shown["semaphores"][2]["last_pid"] > 0


def test_a_user_sees_what_he_may_not_read() -> None:
    """A segment of mode 0 that root made is in everybody's list."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    code = f"{WORLD}\nfrom memfast import sysv\nsysv.usage()\nos.setresuid(65534, 65534, 65534)\n"
    shown = support.in_namespace("i", code + "print([one.id for one in sysv.segments()])")
    assert json.loads(shown) == list(range(19))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m -i 99", "id 99 not found"),
        ("-i 0", "when using an ID, a single resource must be specified"),
        ("-m -q -i 0", "when using an ID, a single resource must be specified"),
        ("-m -i x", "failed to parse id argument: 'x'"),
        ("-o key", "-o is for one kind: -m, -q or -s"),
        ("-m -o key,foo", "unknown column: foo; there are owner, perms, status, id, key"),
        ("-Z", "unrecognized arguments: -Z"),
        ("extra", "unrecognized arguments: extra"),
    ],
)
def test_a_mistake_is_one_line_and_1(words: str, message: str) -> None:
    """Nothing on standard output, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "memfast", "ipcs", *words.split()],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"memfast ipcs: {message}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_an_error() -> None:
    """Like each command."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memfast", "ipcs"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "write error" in done.stderr
