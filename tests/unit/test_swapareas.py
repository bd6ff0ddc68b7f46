"""Swap areas: what /proc/swaps and swapon(8) say."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import support

from memfast import swapareas
from memfast.swapareas import SwapArea

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
TEXT = HEAD + (
    "/dev/vda2                               partition\t8388604\t\t102400\t\t-2\n"
    "/dev/zram0                              partition\t4194304\t\t0\t\t100\n"
    "/var/swap\\040file                       file\t\t1048572\t\t4\t\t5\n"
)
AREAS = [
    SwapArea("/dev/vda2", "partition", 8388604 * 1024, 102400 * 1024, -2),
    SwapArea("/dev/zram0", "partition", 4 << 30, 0, 100),
    SwapArea("/var/swap file", "file", 1048572 * 1024, 4096, 5),
]


def asked(folder: Path, text: str, program: str) -> str:
    """Run a program where /proc/swaps says just this."""
    (folder / "swaps").write_text(text)
    before = f"mount --bind '{folder / 'swaps'}' /proc/swaps"
    return support.in_namespace("m", program, before=before)


OURS = "import json; from memfast import swapareas; print(json.dumps(swapareas.swaps()))"
THEIRS = """
import subprocess
command = ["swapon", "--show=NAME,TYPE,SIZE,USED,PRIO", "--bytes", "--raw", "--noheadings"]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, end="")
"""


@support.need_root
def test_every_area_as_swapon_shows_it(tmp_path: Path) -> None:
    """Name, type, size, use and priority are those of `swapon --show --bytes` on the same text."""
    assert [SwapArea(*row) for row in json.loads(asked(tmp_path, TEXT, OURS))] == AREAS
    if shutil.which("swapon") is None:
        pytest.skip("swapon(8) is not installed (util-linux)")
    rows = [line.split(" ") for line in asked(tmp_path, TEXT, THEIRS).splitlines()]
    assert rows == [
        [area.file.replace(" ", "\\x20"), *map(str, area[1:])] for area in AREAS
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (b"/gone\\040(deleted)", "/gone (deleted)"),
        (b"/new\\012line\\011tab", "/new\nline\ttab"),
        (b"/back\\134040slash", "/back\\040slash"),
        (b"/\xff", "/\udcff"),
        (b"/\\1\\08", "/\\1\\08"),
    ],
)
def test_names_that_the_kernel_escapes(file: bytes, expected: str) -> None:
    """Blanks and backslashes come as octal numbers; other bytes as they are."""
    line = HEAD.encode() + file + b" \t file\t\t8\t\t4\t\t-1\n"
    assert swapareas._parse(line) == [SwapArea(expected, "file", 8192, 4096, -1)]


def test_no_area_and_odd_lines() -> None:
    """The heading alone is an empty list, so is no text; a line that is cut off is passed over."""
    assert swapareas._parse(HEAD.encode()) == swapareas._parse(b"") == []
    assert swapareas._parse(HEAD.encode() + b"/dev/vda2 partition\n\n") == []


def test_the_kernel_s_own_list() -> None:
    """On this machine there are as many areas as lines, with their sizes."""
    lines = Path("/proc/swaps").read_text().splitlines()[1:]
    assert [area.size // 1024 for area in swapareas.swaps()] == [
        int(line.rsplit(None, 3)[1]) for line in lines
    ]


@support.need_root
def test_a_kernel_without_swap_says_so() -> None:
    """Where there is no /proc/swaps the error says what that means."""
    code = """
import memfast
from memfast import swapareas
try:
    swapareas.swaps()
except memfast.NotSupportedError as error:
    print(error.errno, "CONFIG_SWAP" in str(error))
"""
    said = support.in_namespace("m", code, before="mount -t proc -o subset=pid proc /proc")
    assert said.split() == [str(errno.ENOENT), "True"]


def test_what_the_kernel_does_not_write_is_an_error_with_errno(tmp_path: Path) -> None:
    """Not an exception of int()'s."""
    odd = tmp_path / "swaps"
    odd.write_text("Filename Type Size Used Priority\n/a partition x y z\n")
    code = """
import errno
from memfast import stats
try:
    stats.swaps()
except OSError as error:
    assert error.errno == errno.EIO, error
else:
    raise SystemExit("it said something")
"""
    support.in_namespace("m", code, before=f"mount --bind {odd} /proc/swaps")
