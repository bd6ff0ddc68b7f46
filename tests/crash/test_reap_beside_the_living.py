"""reap() beside live traffic and random kills: all that is dead goes, nothing that lives does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import support

import memfast

if TYPE_CHECKING:
    from pathlib import Path

POOL = 6  # names that all workers fight for


def use_names(prefix: str, seed: int) -> None:
    """Make and give up names until killed; a name must lead to us for as long as we have it."""
    rng = random.Random(seed)
    while True:
        name = f"{prefix}-{rng.randrange(POOL)}"
        with suppress(memfast.ExistsError):
            if rng.random() < 0.5:
                with memfast.Channel.create(name, capacity=4096) as made:
                    for _ in range(rng.randrange(4)):
                        with memfast.Channel.open(name) as again:
                            assert again.id == made.id, "another has our name"
            else:
                with memfast.MemoryMap.create(4096, name=name) as held:
                    for _ in range(rng.randrange(4)):
                        with memfast.MemoryMap.open(name) as other:
                            assert os.fstat(other.fileno()).st_ino == os.fstat(held.fileno()).st_ino


def reap_until_killed() -> None:
    while True:
        failed = [row for row in memfast.reap(dry_run=False) if row.outcome == "failed"]
        assert not failed, failed


def echo(there: memfast.Channel, back: memfast.Channel) -> None:
    with there.receiver() as receiver, back.sender() as sender:
        for message in receiver:
            sender.send(message)


def start(function: object, *arguments: object) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        support._run_and_exit(lambda: function(*arguments), parent)  # type: ignore[operator]
    return pid


def kill(pid: int) -> None:
    """Kill a child, which must have lived until now: one that ended by itself saw a fault."""
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def campaign(rng: random.Random, prefix: str, seconds: float) -> None:
    children: dict[str, int] = {}
    try:
        kills, sent = live_through_it(rng, prefix, seconds, children)
    finally:
        for pid in children.values():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    memfast.reap(dry_run=False)  # what the echo had, which ended without a word
    print(f"{kills} kills, {sent} messages")
    assert kills > 10
    assert sent > 100


def live_through_it(
    rng: random.Random, prefix: str, seconds: float, children: dict[str, int]
) -> tuple[int, int]:
    there = memfast.Channel.create(f"{prefix}-there", capacity=4096)
    back = memfast.Channel.create(f"{prefix}-back", capacity=4096)
    lasting = memfast.MemoryMap.create(4096, name=f"{prefix}-lasting")
    children["echo"] = start(echo, there, back)
    for number in range(2):
        children[f"reaper {number}"] = start(reap_until_killed)
    kills = sent = 0
    with there, back, lasting, there.sender() as sender, back.receiver() as receiver:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            victim = f"worker {rng.randrange(4)}"
            if victim in children:
                kill(children.pop(victim))
                kills += 1
            children[victim] = start(use_names, prefix, rng.getrandbits(32))
            pause = time.monotonic() + rng.expovariate(100)
            while time.monotonic() < pause:
                sender.send(b"%d" % sent)
                assert receiver.recv(timeout=20) == b"%d" % sent
                sent += 1
        for role in [role for role in children if role != "echo"]:
            kill(children.pop(role))
        memfast.reap(dry_run=False)
        mine = {one.name: one.state for one in memfast.objects() if one.name is not None}
        left = {name: state for name, state in mine.items() if name.startswith(prefix)}
        assert left == {f"{prefix}-{name}": "alive" for name in ("there", "back", "lasting")}
        assert memfast.MemoryMap.open(f"{prefix}-lasting").size == 4096
    assert support.exit_status(children.pop("echo")) == 0
    return kills, sent


def test_nothing_alive_is_ever_reaped(rng: random.Random, name: str) -> None:
    """Random kills and two reapers beside users of the same names: the dead go, the living stay."""
    campaign(rng, name, 4)


def leave(name: str) -> None:
    kept = memfast.Channel.create(name), memfast.MemoryMap.create(4096, name=name)
    os.kill(os.getpid(), signal.SIGKILL)
    del kept


REAP = """
import memfast
print(*[row.outcome for row in memfast.reap(dry_run=False)])
"""


@pytest.mark.parametrize("call", ["flock", "unlinkat", "openat", "newfstatat"])
@pytest.mark.parametrize("fault", ["error=EIO", "signal=SIGKILL"])
def test_a_reap_that_fails_at_any_call_leaves_it_to_the_next(
    call: str, fault: str, name: str, tmp_path: Path
) -> None:
    """The n-th system call fails or kills: nothing is locked for good, the next reap finishes."""
    trace = tmp_path / "trace"
    tracer = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}"]
    with support.forked(lambda: leave(name)) as pid:
        support.exit_status(pid)
    subprocess.run([*tracer, sys.executable, "-c", REAP], check=True, capture_output=True)
    calls = trace.read_text().count(f"{call}(")
    struck = 0
    for nth in range(max(1, calls - 5), calls + 1):
        with support.forked(lambda: leave(name)) as pid:
            support.exit_status(pid)
        command = [*tracer, "-e", f"inject={call}:{fault}:when={nth}", sys.executable, "-c", REAP]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert killed or "Error" not in done.stderr
        struck += killed or done.stdout != "removed removed\n"
        memfast.reap(dry_run=False)
        assert name not in [one.name for one in memfast.objects()]
        memfast.Channel.create(name).close()
    assert struck


@pytest.mark.soak
def test_nothing_alive_is_ever_reaped_in_ten_minutes(rng: random.Random, name: str) -> None:
    """The same, for long."""
    campaign(rng, name, 600)
