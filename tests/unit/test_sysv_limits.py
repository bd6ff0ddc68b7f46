"""sysv.set_limit(), parse_limit(), ``memfast limits``: set, read back, kept, and never in part."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import support

import memfast
from memfast import sysv

PAGE = os.sysconf("SC_PAGESIZE")
FILE = "60-memfast.conf"
UNLIMITED = (1 << 64) - 1 - (1 << 24)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("shmmax", "1", 1), ("shmmax", "123456789", 123456789), ("shmmax", "64K", 65536)),
        *(("shmmax", "8G", 8 << 30), ("shmmax", "8GiB", 8 << 30), ("shmmax", " 512m ", 512 << 20)),
        *(("shmmax", "2 T", 2 << 40), ("shmmax", "7B", 7), ("shmmax", "unlimited", UNLIMITED)),
        *(("shmall", "1", 1), ("shmall", "8G", (8 << 30) // PAGE), ("shmall", "1B", 1)),
        *(("shmall", "1K", 1), ("shmall", f"{PAGE + 1}B", 2), ("shmall", "Unlimited", UNLIMITED)),
        ("shmmni", "4096", 4096),
    ],
)
def test_values_as_people_write_them(name: str, text: str, value: int) -> None:
    """Plain numbers in the limit's own unit; sizes in bytes, which become pages for shmall."""
    assert sysv.parse_limit(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("shmmax", text) for text in ("", "G", "-1", "1.5G", "0x10", "8 GB x", "8Q", "１")),
        *(("shmmni", text) for text in ("3G", "unlimited", "7B")),
        ("sem", "3"),
    ],
)
def test_what_is_no_value_is_refused(name: str, text: str) -> None:
    """ValueError, which names the limit."""
    with pytest.raises(ValueError, match=name):
        sysv.parse_limit(name, text)


@support.need_root
@pytest.mark.parametrize("name", ["shmmax", "shmall", "shmmni"])
def test_a_limit_is_set_and_holds(name: str, tmp_path: Path) -> None:
    """The kernel has it, and enforces it: in a namespace, the host's stays."""
    before = Path("/proc/sys/kernel", name).read_text()
    code = """
import json, sys
from memfast import Segment, errors, sysv
from pathlib import Path
name, enough = sys.argv[1], {"shmmax": 8192, "shmall": 2, "shmmni": 1}[sys.argv[1]]
change = sysv.set_limit(name, enough)
assert (change.name, change.after, change.path, change.text) == (name, enough, None, None)
assert getattr(sysv.limits(), name) == enough == int(Path("/proc/sys/kernel", name).read_text())
one = Segment.create(4000, key=1)
try:
    two = Segment.create(9000, key=2)
except errors.LimitError as error:
    assert f"kernel.{name}={enough}" in str(error)
    print("holds")
assert sysv.set_limit(name, enough * 2).before == enough
Segment.create(9000, key=3)
"""
    assert support.in_namespace("i", code, name) == "holds\n"
    assert Path("/proc/sys/kernel", name).read_text() == before


def test_root_of_a_user_namespace_may() -> None:
    """Who owns the IPC namespace sets its limits; `unshare -Uri` makes anybody that."""
    code = "from memfast import sysv; print(sysv.set_limit('shmmax', 12345678).after)"
    command = ["unshare", "-Uri", *support.python(code)[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "12345678\n", done.stderr


@pytest.mark.parametrize("value", [0, -1, 1 << 64])
def test_a_value_that_cannot_be_is_refused(value: int) -> None:
    """Before the kernel is asked; and so is a limit that is none, and a number that is none."""
    with pytest.raises(ValueError, match="from 1 to"):
        sysv.set_limit("shmmax", value)
    with pytest.raises(ValueError, match="there are shmmax, shmall, shmmni"):
        sysv.set_limit("../vm/swappiness", 1)
    with pytest.raises(TypeError):
        sysv.set_limit("shmmax", "8G")  # type: ignore[arg-type]


# ---- the file ----

KEEP = """
import sys
from memfast import sysv
for name, value in ("shmmax", 1 << 30), ("shmall", 77), ("shmmax", 1 << 31):
    sysv.set_limit(name, value, persist=True, directory=sys.argv[1])
print(sysv.limits().shmmax)
"""


@support.need_root
def test_what_is_kept_is_a_file_that_sysctl_reads(tmp_path: Path) -> None:
    """One line a limit, the last value; other lines stay; sysctl(8) sets just that."""
    path = tmp_path / FILE
    path.write_text("# mine\nvm.swappiness = 10\n-kernel/shmmax=5\nkernel.shmmni = 100")
    assert support.in_namespace("i", KEEP, tmp_path) == f"{1 << 31}\n"
    assert path.read_text() == (
        "# mine\nvm.swappiness = 10\nkernel.shmmni = 100\n"
        f"kernel.shmall = 77\nkernel.shmmax = {1 << 31}\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == [FILE]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
    code = "from memfast import sysv; print(sysv.limits()[:4])"
    before = f"sysctl -q -p {path} || exit 0"
    said = support.in_namespace("i", code, before=before)
    assert said in ("", f"({1 << 31}, 1, 77, 100)\n")


@support.need_root
def test_a_new_file_says_whose_it_is(tmp_path: Path) -> None:
    """A comment, then the line."""
    support.in_namespace("i", KEEP, tmp_path)
    lines = (tmp_path / FILE).read_text().splitlines()
    assert lines[0].startswith("# Written by memfast")
    assert lines[1:] == ["kernel.shmall = 77", f"kernel.shmmax = {1 << 31}"]


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It says what would be: before, after, and the whole file."""
    before = sysv.limits().shmall
    change = sysv.set_limit("shmall", 5, persist=True, directory=tmp_path, dry_run=True)
    assert (change.unit, change.before, change.after) == ("pages", before, 5)
    assert change.path == str(tmp_path / FILE)
    assert change.text is not None
    assert change.text.endswith("\nkernel.shmall = 5\n")
    assert os.listdir(tmp_path) == []
    assert sysv.limits().shmall == before


REFUSED = """
import os, sys
from memfast import sysv
try:
    sysv.set_limit("shmmni", int(sys.argv[2]), persist=True, directory=sys.argv[1])
except OSError as error:
    print(type(error).__name__, error)
print(sysv.limits().shmmni, os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else "")
"""


@support.need_root
def test_if_the_kernel_refuses_no_file_is_written(tmp_path: Path) -> None:
    """More segments than Linux can count: nothing changed, nothing left."""
    before = sysv.limits().shmmni
    said = support.in_namespace("i", REFUSED, tmp_path, 1 << 24).splitlines()
    assert said[0].startswith("OSError [Errno 22] setting kernel.shmmni to 16777216: the kernel")
    assert said[1] == f"{before} []"


@support.need_root
@pytest.mark.parametrize("where", ["missing", "/proc/sys", "a file"])
def test_if_the_file_cannot_be_the_kernel_is_not_asked(tmp_path: Path, where: str) -> None:
    """No such directory, one that takes no files, none at all: nothing was changed."""
    before = sysv.limits().shmmni
    (tmp_path / "a file").write_text("")
    said = support.in_namespace("i", REFUSED, tmp_path / where, 7).splitlines()
    assert "(nothing was changed)" in said[0]
    assert said[1].split()[0] == str(before)


@support.need_root
def test_if_the_name_cannot_be_taken_the_old_value_is_put_back(tmp_path: Path) -> None:
    """A directory has the file's name: rename(2) fails after the kernel had agreed."""
    (tmp_path / FILE).mkdir()
    before = sysv.limits().shmmni
    code = f"""
from memfast import sysctl
sysctl._kept_text = lambda path, name, value: "text"  # reading would have noticed
{REFUSED}"""
    said = support.in_namespace("i", code, tmp_path, 7).splitlines()
    assert "(nothing was changed)" in said[0]
    assert said[1] == f"{before} ['{FILE}']"


def test_not_root_is_one_clear_line(tmp_path: Path) -> None:
    """AccessError; nothing written."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")

    def other() -> None:
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(memfast.AccessError, match="it takes root of the user namespace"):
            sysv.set_limit("shmmax", 5)
        with pytest.raises(memfast.AccessError, match=r"was changed.*: it takes root"):
            sysv.set_limit("shmmax", 5, persist=True, directory=tmp_path)

    with support.forked(other) as pid:
        assert support.exit_status(pid) == 0
    assert os.listdir(tmp_path) == []


@support.need_root
def test_a_read_only_proc_is_said(tmp_path: Path) -> None:
    """As in a container."""
    before = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    said = support.in_namespace("im", REFUSED, tmp_path, 5, before=before).splitlines()
    assert said[0].startswith(
        "AccessError [Errno 30] setting kernel.shmmni to 5: /proc/sys is read"
    )
    assert said[1].endswith("[]")


# ---- the command ----


def limits(*words: str) -> tuple[int, str, str]:
    """Run ``memfast limits``."""
    done = subprocess.run(
        [sys.executable, "-m", "memfast", "limits", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@support.need_root
def test_the_command_shows_limits_and_use() -> None:
    """Bytes against pages, in words; and in JSON."""
    code = """
import sys
from memfast import Segment
from memfast.cli import main
held = [Segment.create(5000, key=1), Segment.create(100000, key=2)]
main(["limits", "set", "shmall", "1G"])
main(["limits", "set", "shmmni", "9"])
main(["limits"])
main(["limits", "--json"])
"""
    lines = support.in_namespace("i", code).splitlines()
    assert lines[0].startswith("kernel.shmall = 262144 (was ")
    assert lines[0].endswith("; pages in all, of 4096 bytes: 1G)")
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["LIMIT", "VALUE", "USED"],
        ["shmmax", str(UNLIMITED), "100000"],
        ["shmall", "262144", "27"],
        ["shmmni", "9", "2"],
    ]
    assert max(map(len, lines[2:6])) <= 80
    shown = json.loads(lines[6])
    assert shown["limits"]["shmall"] == {"limit": 262144, "used": 27, "unit": "pages"}
    assert shown["page_size"] == PAGE


def test_a_dry_run_shows_the_file() -> None:
    """--persist --dry-run: the path and each line, and nothing happens."""
    before = sysv.limits()
    status, said, _ = limits("set", "shmmax", "3G", "--persist", "--dry-run")
    assert status == 0
    assert said.startswith(
        f"would set kernel.shmmax = {3 << 30} (was {before.shmmax}; bytes a segment: 3G"
    )
    assert "would write /etc/sysctl.d/60-memfast.conf" in said
    assert f"    kernel.shmmax = {3 << 30}\n" in said
    assert sysv.limits() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("set shmmax", "usage: memfast limits set shmmax|shmall|shmmni VALUE"),
        ("get shmmax 5", "usage: memfast limits set"),
        ("set shmmax lots", "shmmax='lots': a number of bytes, a size as 512M or 8G, or unlimited"),
        ("set shmmax 0", "shmmax=0: from 1 to 18446744073709551615 bytes"),
        ("set shmmni 1G", "shmmni='1G': a number of segments has no unit"),
        ("set swappiness 1", "limit 'swappiness': there are shmmax, shmall, shmmni"),
        ("--persist", "--persist and --dry-run go with `set NAME VALUE`"),
    ],
)
def test_a_mistake_is_one_line_and_1(words: str, message: str) -> None:
    """Nothing on standard output, no traceback, nothing set."""
    before = sysv.limits()
    status, said, complained = limits(*words.split())
    assert (status, said) == (1, "")
    assert complained.startswith(f"memfast limits: {message}")
    assert complained.count("\n") == 1
    assert sysv.limits() == before
