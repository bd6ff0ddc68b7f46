"""``memfast swaps`` beside swapon --show of util-linux on the same file; ``memfast psi``."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import support

from memfast import stats

TITLES = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
LINE = "{:<40}{:<10}\t{}\t\t{}\t\t{}\n"
FLAGS = [
    *("", "--bytes", "--noheadings", "--raw", "--bytes --raw --noheadings", "--show=NAME"),
    *("--show=NAME,PRIO", "--show=type,SIZE", "--show=USED,NAME --noheadings", "--show=PRIO --raw"),
]
BESIDE = """
import contextlib, difflib, io, json, subprocess, sys
path, flags = json.loads(sys.argv[1])
subprocess.run(["mount", "--bind", path, "/proc/swaps"], check=True)
from memfast.cli import main
for words in flags:
    theirs = subprocess.run(["swapon", "--show", *words.split()], capture_output=True, text=True)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = main(["swaps", *words.split()])
    if (theirs.stdout, theirs.returncode) != (text.getvalue(), status):
        sides = theirs.stdout.splitlines(), text.getvalue().splitlines()
        sys.exit("\\n".join([words, *difflib.unified_diff(*sides, "theirs", "ours", n=0)]))
print(len(flags))
"""


def memfast(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a program."""
    return subprocess.run(
        [sys.executable, "-m", "memfast", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# ---- swaps ----


def _areas(rng: random.Random) -> dict[str, str]:
    odd = ["/swap\\040file", "/back\\134slash\\011tab", "/é", "/dev/zz\\040(deleted)", "/a"]
    rows = [(name, "file", 1048572 + i, i * 7, -i) for i, name in enumerate(odd)]
    sizes = [(f"/swap{i}", "file", int(2 ** rng.uniform(0, 42))) for i in range(300)]
    return {
        "usual": LINE.format("/dev/zz1", "partition", 2097148, 1024, -2),
        "several": LINE.format("/dev/zz1", "partition", 4294967296, 0, 32767)
        + LINE.format("/f", "file", 12342040, 11111111, 100),
        "odd names": "".join(LINE.format(*row) for row in rows),
        "every size": "".join(
            LINE.format(*row, rng.randrange(row[2] + 1), i) for i, row in enumerate(sizes)
        ),
        "none": "",
    }


@support.need_root
def test_every_flag_prints_what_swapon_prints(tmp_path: Path, rng: random.Random) -> None:
    """Sizes rounded, columns aligned, names escaped: the same bytes."""
    version = subprocess.run(["swapon", "-V"], capture_output=True, text=True, check=False).stdout
    if "util-linux 2.38" not in version:
        pytest.skip("needs swapon(8) of util-linux 2.38")
    for name, text in _areas(rng).items():
        path = tmp_path / name
        path.write_text(TITLES + text)
        answer = support.in_namespace("m", BESIDE, json.dumps([str(path), FLAGS]))
        assert answer.split() == [str(len(FLAGS))], name


@support.need_root
def test_swaps_in_json_are_those_of_the_library(tmp_path: Path) -> None:
    """Bytes and numbers."""
    path = tmp_path / "swaps"
    path.write_text(TITLES + LINE.format("/a\\040b", "file", 1023, 17, -3))
    code = "import sys; from memfast.cli import main; sys.exit(main(['swaps', '--json']))"
    mount = f"mount --bind '{path}' /proc/swaps"
    assert json.loads(support.in_namespace("m", code, before=mount)) == {
        "swaps": [
            {"file": "/a b", "type": "file", "size": 1023 << 10, "used": 17 << 10, "priority": -3}
        ]
    }


@pytest.mark.parametrize("words", ["--show=FOO", "--show=NAME,", "--nonesuch", "extra"])
def test_a_mistake_ends_swaps_with_1(words: str) -> None:
    """Nothing on standard output."""
    done = memfast("swaps", words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr


# ---- psi ----


def measured() -> bool:
    try:
        stats.pressure("cpu")
    except OSError:
        return False
    return True


need_psi = pytest.mark.skipif(not measured(), reason="this kernel does not measure pressure")


@need_psi
def test_psi_shows_what_the_kernel_measures() -> None:
    """A line for some and full of each kind, in 80 columns; JSON with the same figures."""
    lines = memfast("psi").stdout.splitlines()
    assert lines[0].split() == ["avg10", "avg60", "avg300", "seconds"]
    assert {tuple(line.split()[:2]) for line in lines[1:]} >= {("memory", "some"), ("io", "full")}
    assert max(map(len, lines)) <= 80
    before = stats.pressure("io")
    row: dict[str, Any] = json.loads(memfast("psi", "io", "--json").stdout)["io"]
    after = stats.pressure("io")
    assert before.some
    assert after.some
    assert before.some.total <= row["some"]["total"] <= after.some.total
    assert set(row["full"]) == {"avg10", "avg60", "avg300", "total"}


@need_psi
def test_psi_prints_a_line_for_each_stall() -> None:
    """More tasks than processors stand in each other's way: an object a line, exit status 0."""
    end = threading.Event()
    burners = [
        subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"])
        for _ in range(4)
    ]
    try:
        words = ("psi", "cpu", "--watch", "1ms/2s", "--count", "2", "--timeout", "20s", "--json")
        done = memfast(*words)
    finally:
        end.set()
        for burner in burners:
            burner.kill()
            burner.wait()
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["kind"], one["line"], one["watch"]) for one in events] == [
        ("cpu", "some", "1ms/2s")
    ] * 2
    assert events[0]["some"]["total"] < events[1]["some"]["total"]
    assert abs(events[1]["time"] - time.time()) < 60


@need_psi
def test_psi_ends_with_124_when_the_time_is_over() -> None:
    """As timeout(1) does, having waited so long."""
    begin = time.monotonic()
    done = memfast("psi", "memory", "--watch", "2s/2s", "--timeout", "300ms")
    assert (done.returncode, done.stdout) == (124, "")
    assert time.monotonic() - begin >= 0.3


@need_psi
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nonsense",), "invalid choice"),
        (("--watch", "1s"), "STALL/WINDOW"),
        (("--watch", "1x/2s"), "no time"),
        (("--watch", "3s/2s"), "stall"),
        (("--watch", "1s/20s"), "window"),
        (("--count", "1"), "--watch"),
        (("--watch", "1s/2s", "--count", "0"), "above 0"),
        (("memory", "--cgroup", "/nonesuch"), "no such cgroup"),
    ],
)
def test_a_mistake_ends_psi_with_1(words: tuple[str, ...], told: str) -> None:
    """And says what is wrong."""
    done = memfast("psi", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
