"""``memfast ls``, ``reap`` and ``doctor``: what they print, ask, remove, and how they end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import support

import memfast
from memfast.cli import listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memfast import Object


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memfast", *words]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def on_a_terminal(answer: bytes, *words: str) -> tuple[str, int]:
    """Run the command on a terminal, type an answer, and return what was shown and the status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "memfast", *words])
    shown, typed = b"", False
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        shown += part
        if b"[y/N]" in shown and not typed:
            os.write(terminal, answer)
            typed = True
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def dead(name: str) -> Iterator[str]:
    """Leave a dead channel and a dead map of that name."""

    def die() -> None:
        kept = memfast.Channel.create(name), memfast.MemoryMap.create(5000, name=name)
        os.kill(os.getpid(), signal.SIGKILL)
        del kept

    with support.forked(die) as pid:
        support.exit_status(pid)
    yield name
    memfast.reap(dry_run=False)


def there(name: str) -> list[Object]:
    return [one for one in memfast.objects() if one.name == name]


# ---- ls ----


def test_ls_shows_a_line_for_each_and_what_to_do_about_the_dead(dead: str) -> None:
    """Kind, state, size, owner, creator, attachments, id, age and name, in aligned columns."""
    with memfast.Channel.create("alive-one") as channel:
        done = run("ls")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head == listing_head()
    lines = {(row.split()[0], row.split()[-1]): row for row in rows[:-1]}
    living = lines["channel", "alive-one"].split()
    assert living[1] == "alive"
    assert living[4:7] == [str(os.getpid()), "1", str(channel.id)]
    assert lines["channel", dead].split()[1] == lines["map", dead].split()[1] == "dead"
    assert all(row[head.index("NAME") - 1] == " " for row in lines.values())
    assert rows[-1].startswith("2 of ")
    assert "memfast reap" in rows[-1]


def listing_head() -> str:
    from memfast.cli import ls

    return ls._HEAD


def test_ls_of_nothing_says_so() -> None:
    """One line, and an empty list in JSON."""
    code = """
from memfast.cli import main
main(["ls"]); main(["ls", "--json"]); main(["reap"]); main(["reap", "--yes", "--json"])
"""
    said = support.in_namespace("im", code, before="mount -t tmpfs s /dev/shm").splitlines()
    assert said[0] == "memfast has nothing in memory here."
    assert json.loads(said[1]) == {"objects": []}
    assert said[2] == "There is nothing left by the dead."
    assert json.loads(said[3]) == {"reaped": []}


def test_ls_in_json_is_what_the_library_says(dead: str) -> None:
    """Every field by its name, in bytes."""
    printed = json.loads(run("ls", "--json").stdout)
    assert list(printed) == ["objects"]
    rows: list[dict[str, Any]] = [row for row in printed["objects"] if row["name"] == dead]
    for row, one in zip(rows, there(dead), strict=True):
        assert row.pop("age") <= one.age
        expected = json.loads(json.dumps(one._asdict()))
        del expected["age"]
        assert row == expected


def test_ls_fits_80_columns_and_hostile_names_do_no_harm(name: str) -> None:
    """Line ends and escape sequences in file names are shown as text."""
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    file = support.NAMES / f"{name}\n\x1b[2Jx.map"
    file.mkdir()
    try:
        done = run("ls")
        assert "\x1b" not in done.stdout
        assert f"{name}\\n\\x1b[2Jx.map" in done.stdout
        with memfast.Channel.create("a-usual-name", capacity=1 << 20), memfast.Segment.create(1):
            rows = [row for row in run("ls").stdout.splitlines() if name not in row]
        assert max(map(len, rows)) <= 80
    finally:
        file.rmdir()


# ---- reap ----


def test_reap_only_shows_without_yes(dead: str) -> None:
    """Not on a terminal, or with --dry-run: what would go, and how to do it; nothing goes."""
    for words in ["reap"], ["reap", "--dry-run"]:
        done = run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("would remove ") == 2
        assert "2 would be removed (5064B)" in done.stdout
        assert "Nothing was removed; memfast reap --yes does it." in done.stdout
        assert len(there(dead)) == 2


def test_reap_with_yes_removes_and_says_what(dead: str) -> None:
    """Each outcome, the totals; the names are gone."""
    done = run("reap", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()
    assert [row.split()[:2] for row in rows[:2]] == [["removed", "channel"], ["removed", "map"]]
    assert rows[2].startswith("2 removed (")
    assert there(dead) == []


def test_reap_in_json(dead: str) -> None:
    """Without --yes outcomes of "would remove", with it "removed"; numbers are bytes."""
    for words, outcome in (["--json"], "would remove"), (["--json", "--yes"], "removed"):
        rows = json.loads(run("reap", *words).stdout)["reaped"]
        assert {row["outcome"] for row in rows} == {outcome}
        assert {row["kind"]: row["size"] for row in rows} == {"channel": 64, "map": 5000}
        assert all(row["error"] is None for row in rows)


@pytest.mark.parametrize(
    ("answer", "goes"),
    [(b"y\n", True), (b"YES\n", True), (b"n\n", False), (b"\n", False), (b"\x04", False)],
)
def test_reap_asks_on_a_terminal(answer: bytes, goes: bool, dead: str) -> None:
    """Only a plain yes removes; no, an empty line and an end of input do not."""
    shown, status = on_a_terminal(answer, "reap")
    assert status == 0
    assert ("Nothing was removed" in shown) == (not goes)
    assert bool(there(dead)) == (not goes)


def test_reap_does_not_ask_for_a_dry_run(dead: str) -> None:
    """On a terminal too, --dry-run only shows."""
    shown, status = on_a_terminal(b"y\n", "reap", "--dry-run")
    assert "[y/N]" not in shown
    assert status == 0
    assert there(dead)


def test_reap_that_fails_ends_with_1(dead: str) -> None:
    """While somebody has the directory locked: the reason for each, exit status 1."""
    import fcntl

    directory = os.open(support.NAMES, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    done = run("reap", "--yes")
    os.close(directory)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert done.stdout.count("locked") == 2
    assert there(dead)


# ---- doctor ----


def test_doctor_prints_each_finding_in_80_columns() -> None:
    """A line for each thing looked at, the advice below, the count at the end."""
    done = run("doctor")
    found = memfast.doctor()
    assert done.stderr == ""
    assert done.returncode == any(one.severity == "warning" for one in found)
    rows = done.stdout.splitlines()
    assert max(map(len, rows)) <= 80
    assert [row.split()[0] for row in rows if not row.startswith(" ")][:-1] == [
        one.severity for one in found
    ]
    assert rows[-1].startswith(f"{len(found)} looked at: ")


def test_doctor_in_json_is_what_the_library_says() -> None:
    """The same findings, by their fields' names."""
    rows = json.loads(run("doctor", "--json").stdout)["findings"]
    assert [row["what"] for row in rows] == [one.what for one in memfast.doctor()]
    assert all(set(row) == {"severity", "what", "figure", "advice"} for row in rows)


@support.need_root
@pytest.mark.parametrize(("size", "status"), [("1g", 0), ("64m", 1)])
def test_doctor_ends_with_1_if_there_is_a_warning(size: str, status: int) -> None:
    """In a container's /dev/shm of 64 MiB it warns; notes alone are no failure."""
    code = "from memfast.cli import main; print(main(['doctor', '--json']))"
    before = f"mount -t tmpfs -o mode=1777,size={size} s /dev/shm"
    findings, printed = support.in_namespace("m", code, before=before).splitlines()
    warned = [
        row["what"] for row in json.loads(findings)["findings"] if row["severity"] == "warning"
    ]
    if set(warned) - {"/dev/shm"}:
        pytest.skip(f"this machine has warnings of its own: {warned}")
    assert int(printed) == status


# ---- all ----


@pytest.mark.parametrize("command", ["ls", "reap", "doctor"])
def test_mistakes_and_full_disks_are_one_line(command: str) -> None:
    """An unknown option or a word too many: usage and exit 1; a full disk: 1 and no traceback."""
    for words in ["--nonsense"], ["word"]:
        done = run(command, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"memfast {command}:" in done.stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memfast", command],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"memfast {command}: write error: No space left on device\n"
    done = run(command, "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_reap_takes_yes_or_dry_run_and_not_both() -> None:
    """Who says both is told so, and nothing is removed."""
    done = run("reap", "--yes", "--dry-run")
    assert done.returncode == 1
    assert "not allowed with" in done.stderr


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (64, "64B"),
        (4096, "4K"),
        (5000, "5000B"),
        (139123, "136K"),
        (65536, "64K"),
        (10**7, "9766K"),
        (1 << 62, "4E"),
    ],
)
def test_sizes_have_five_characters_at_most(size: int, text: str) -> None:
    """The unit is as small as fits."""
    assert listing.size_text(size) == text


@pytest.mark.parametrize(
    ("age", "text"), [(0.0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (10**7, "115d")]
)
def test_ages_are_short(age: float, text: str) -> None:
    """In the largest unit of which there are two."""
    assert listing.age_text(age) == text
