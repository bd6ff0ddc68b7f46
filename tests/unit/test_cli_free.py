"""``memfast free`` beside free(1) of procps 4 on the same /proc/meminfo, to the byte."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import support

from memfast import stats

FOLDER = support.ROOT / "tests" / "fixtures" / "meminfo"
DIFFERENT = ("empty", "empty-line")  # these two have tests of their own
FIXTURES = sorted(path for path in FOLDER.glob("*.txt") if path.stem not in DIFFERENT)
RUN = "import sys; from memfast.cli import main; sys.exit(main(['free', *sys.argv[1:]]))"
UNITS = [
    *("", "-b", "-k", "-m", "-g", "--tebi", "--pebi"),
    *("--kilo", "--mega", "--giga", "--tera", "--peta", "-h", "-m -h"),
]
LAYOUTS = ["", "-l", "-t", "-v", "-w", "-l -t -v -w", "-tw -s 0.001 -c 2"]
FLAGS = [
    " ".join(filter(None, (unit, si, layout)))
    for unit in UNITS
    for si in ("", "--si")
    for layout in LAYOUTS
]

# Run in a mount namespace of its own: free(1) in a shell's loop, ours by a call in a fork.
BESIDE = """
import contextlib, io, json, os, subprocess, sys
fixtures, flags = json.loads(sys.argv[1])
script = 'while read -r line; do free $line 2>&1; echo "=$?"; done'

def theirs():
    done = subprocess.run(["sh", "-c", script], input="\\n".join(flags) + "\\n",
                          capture_output=True, text=True, check=True)
    return done.stdout

def ours():
    from memfast.cli import main
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        for words in flags:
            print(f"={main(['free', *words.split()])}")
    return text.getvalue()

for fixture in fixtures:
    subprocess.run(["mount", "--bind", fixture, "/proc/meminfo"], check=True)
    answers = theirs(), ours()
    subprocess.run(["umount", "/proc/meminfo"], check=True)
    for words, his, our in zip(flags, *(text.split("\\n=") for text in answers)):
        if his != our:
            sys.exit(f"free {words}\\n{his}\\nmemfast free {words}\\n{our}")
    print(fixture, answers[0].count("\\n=") * (answers[0] == answers[1]))
"""

pytestmark = [
    pytest.mark.skipif(
        "procps-ng 4.0.2"
        not in subprocess.run(["free", "-V"], capture_output=True, text=True, check=False).stdout,
        reason="needs free(1) of procps 4.0.2",
    )
]


def memfast(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a program."""
    return subprocess.run(
        [sys.executable, "-m", "memfast", "free", *words],
        **{"capture_output": True, "text": True, "timeout": 30, "check": False, **options},
    )


def free(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["free", *words], capture_output=True, text=True, check=False)


@support.need_root
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_every_flag_prints_what_free_prints(fixture: Path) -> None:
    """Each unit, by 1000 and 1024, in each layout: the same bytes and exit status."""
    answer = support.in_namespace("m", BESIDE, json.dumps([[str(fixture)], FLAGS]))
    assert answer.split() == [str(fixture), str(len(FLAGS))]


@support.need_root
def test_an_empty_line_hides_nothing() -> None:
    """free(1) loses the line behind it; we show what the file says."""

    def shown(fixture: str) -> str:
        mount = f"mount --bind {FOLDER / fixture} /proc/meminfo"
        return support.in_namespace("m", RUN, "-l", "-t", "-v", "-w", before=mount)

    assert shown("empty-line.txt") == shown("desktop.txt")


@support.need_root
def test_an_empty_file_is_an_error_of_both() -> None:
    """Exit status 1, nothing on standard output, a message of one line."""
    code = "import sys; from memfast.cli import main; print(main(['free'])); sys.stdout.flush()"
    mount = f"mount --bind {FOLDER}/empty.txt /proc/meminfo; ! free 2>&1 || exit 7"
    assert support.in_namespace("m", code, before=mount).splitlines()[1:] == ["1"]


def test_live_it_is_free() -> None:
    """As programs, one after the other, until memory stood still meanwhile."""

    def same() -> bool:
        before = free("-w", "-l", "-v").stdout
        ours = memfast("-w", "-l", "-v").stdout
        figures = [[int(word) for word in re.findall("[0-9]+", text)] for text in (before, ours)]
        assert len(figures[0]) == len(figures[1])
        drift = max(abs(a - b) for a, b in zip(*figures, strict=True))
        assert re.sub(" +[0-9]+", "", ours) == re.sub(" +[0-9]+", "", before)
        return drift < figures[0][0] // 100

    support.until(same)


@pytest.mark.parametrize(
    "words",
    [
        *("-s 0", "-s -1", "-s abc", "-s 1x", "-s 1e3", "-s nan", "-s 0x1", "-s 0.0000000001"),
        *("-c 0", "-c -1", "-c abc", "-c 2x", "-c 3000000000"),
        *("-b -k", "-m -m", "--kilo -k", "--tera --giga -h"),
    ],
)
def test_mistakes_have_the_words_of_free(words: str) -> None:
    """The same message and exit status, nothing on standard output."""
    done, theirs = memfast(*words.split()), free(*words.split())
    assert (done.returncode, done.stdout) == (theirs.returncode, theirs.stdout) == (1, "")
    assert done.stderr.replace("memfast free:", "free:") == theirs.stderr


@pytest.mark.parametrize("words", ["x", "-z", "--nonesuch", "-s", "-c", "--co 1", "--m", "-L"])
def test_a_misuse_ends_with_1_and_the_usage(words: str) -> None:
    """As free(1) does: nothing on standard output."""
    for done in memfast(*words.split()), free(*words.split()):
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search("usage:", done.stderr, re.IGNORECASE)


def test_help_is_readable() -> None:
    """--help is help, -h is not; 80 columns; both ways to call the command."""
    text = memfast("--help").stdout
    for word in "--bytes", "--human", "--si", "--wide", "--seconds", "--old", "--cgroup", "--json":
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
    assert "Gi" in memfast("-h").stdout
    program = Path(sys.executable).with_name("memfast")
    if program.exists():
        done = subprocess.run([program, "free"], capture_output=True, text=True, check=False)
        assert done.stdout.startswith(" " * 15 + "total")


def test_it_is_shown_again_and_again() -> None:
    """-c times, each -s seconds, a blank line between; with --json one object a line."""
    for words in ("-s 0.01 -c 3", "-s 0,01 -c 3"):
        tables = memfast(*words.split()).stdout.split("\n\n")
        assert [len(table.splitlines()) for table in tables] == [3, 3, 3]
    lines = memfast("-s", ".01", "-c", "2", "--json").stdout.splitlines()
    assert [set(json.loads(line)) for line in lines] == [
        {"mem", "swap", "low", "high", "total", "commit"}
    ] * 2


def test_json_has_the_figures_of_the_library() -> None:
    """Bytes; snake_case; what does not change is equal."""
    row: dict[str, Any] = json.loads(memfast("--json").stdout)
    figures = stats.free()
    assert row["mem"]["total"] == figures.mem.total
    assert list(row["mem"]) == list(figures.mem._fields)
    assert row["commit"]["limit"] == figures.commit.limit
    assert row["total"]["total"] == figures.mem.total + figures.swap.total
    assert row["mem"]["used"] == row["mem"]["total"] - row["mem"]["available"]


OLD = """\
             total       used       free     shared    buffers     cached
Mem:      16303428   15114416    1189012     682012     843200    7622684
-/+ buffers/cache:    6648532    9654896
Swap:      2097148     196604    1900544
Total:    18400576   15311020    3089556
"""


@support.need_root
def test_the_old_table_is_that_of_procps_3_3_9() -> None:
    """used = total - free; cached without slab; -/+ takes buffers and cached out."""
    mount = f"mount --bind {FOLDER}/desktop.txt /proc/meminfo"
    assert support.in_namespace("m", RUN, "--old", "-t", before=mount) == OLD
    row = json.loads(support.in_namespace("m", RUN, "--old", "--json", before=mount))
    assert row["buffers_cache"] == {"used": 6648532 << 10, "free": 9654896 << 10}
    assert row["mem"]["cached"] == 7622684 << 10


def test_what_binds_this_process_is_named() -> None:
    """--cgroup: the host's figures, each cgroup's, and the bound that effective() finds."""
    found = stats.effective()
    lines = memfast("--cgroup", "-b").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("limit", "Host:"),
        *["Cgroup:"] * len(found.cgroup.levels),
        "Bound:",
    ]
    assert lines[1].split()[1] == str(found.host_total)
    assert lines[-1].split()[1] == str(found.total)
    row = json.loads(memfast("--cgroup", "--json").stdout)
    assert row["total"] == found.total
    assert [level["path"] for level in row["cgroup"]["levels"]] == [
        level.path for level in found.cgroup.levels
    ]


@support.need_root
def test_a_limit_of_a_cgroup_is_shown(nested_cgroups: tuple[Path, Path]) -> None:
    """A child in a group of 64 MiB reads its own bound."""
    outer, inner = nested_cgroups
    code = """if True:
        import os, sys
        open(os.path.join(sys.argv[1], "cgroup.procs"), "w").write(str(os.getpid()))
        from memfast.cli import main
        sys.exit(main(["free", "--cgroup", "-m"]))
    """
    lines = support.run_python(code, inner).splitlines()
    assert lines[-1].split()[:2] == ["Bound:", "64"]
    assert str(outer) in lines[-1]


# ---- how it ends ----


def test_a_full_disk_is_told() -> None:
    """``memfast free > /dev/full``: a line on standard error, exit status 1."""
    with open("/dev/full", "w") as full:
        done = memfast(capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "memfast free: write error: No space left on device\n"
    with open("/dev/full", "w") as full:
        done = memfast("--help", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_closed_output_is_told() -> None:
    """``memfast free >&-``: exit status 1."""
    command = f"{sys.executable} -m memfast free >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "memfast free: write error: Bad file descriptor\n")


@pytest.mark.parametrize("program", [["free"], [sys.executable, "-m", "memfast", "free"]])
def test_the_interrupt_key_and_a_broken_pipe_end_it(program: list[str]) -> None:
    """By the signal and without a word, as free(1) ends: a shell's loop ends too."""
    for how, signalled in (("key", signal.SIGINT), ("pipe", signal.SIGPIPE)):
        with subprocess.Popen(
            # Tests that run in a shell's background have the signal ignored.
            ["env", "--default-signal=INT", *program, "-s", "0.05"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline().split()[0] == b"total"
            if how == "key":
                child.send_signal(signal.SIGINT)
            else:
                child.stdout.close()
            assert child.wait(10) == -signalled
            assert child.stderr.read() == b""


def test_a_command_loads_only_itself() -> None:
    """``memfast free`` imports no other command."""
    code = """if True:
        import sys
        from memfast.cli import main
        main(["free"])
        print(*(name for name in sys.modules if name.startswith("memfast.cli.")))
    """
    assert set(support.run_python(code).splitlines()[-1].split()) == {
        "memfast.cli.free",
        "memfast.cli.output",
    }
