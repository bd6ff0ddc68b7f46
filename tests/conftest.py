"""Every test leaves nothing behind, has a seed that can be set, and names that nobody else uses."""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import random
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

import memfast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

support.isolate()
# Under nohup(1), or in the background of a shell without job control, these are ignored, and
# children would inherit that: tests of signals send them what they expect to die of.
for _number, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


def pytest_report_header() -> list[str]:
    where = (
        "namespaces of its own"
        if support.isolated()
        else "the machine's namespaces: only our segments count"
    )
    return [f"memfast: {Path(memfast.__file__).parent}", f"System V IPC and /dev/shm: {where}"]


@pytest.fixture(scope="session", autouse=True)
def what_outlives_a_test() -> None:
    """Start what a process has once and keeps, so that no test is blamed for it."""
    multiprocessing.resource_tracker.ensure_running()
    multiprocessing.forkserver.ensure_running()
    # The thread that watches for deaths, and its epoll descriptor: a wait in vain starts it.
    with (
        memfast.Channel.create() as channel,
        channel.sender(),
        channel.receiver() as receiver,
        pytest.raises(memfast.WaitTimeout),
    ):
        receiver.recv(timeout=0.2)
    # The files of /proc that stay open.
    memfast.virtual_memory()
    memfast.swap_memory()
    memfast.vmstat()
    memfast.stats.rss()
    memfast.stats.zones()
    memfast.stats.activity()
    memfast.stats.disks()
    for kind in "memory", "io", "cpu":
        try:
            memfast.pressure(kind)
        except memfast.NotSupportedError:
            pass  # the tests of it say so


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_failed] = report.failed or item.stash.get(_failed, False)
    return report


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, what_outlives_a_test: None) -> Iterator[None]:
    """Compare segments, names, descriptors and children before and after the test."""
    before = support.Traces()
    yield
    if request.node.stash.get(_failed, False):
        return  # its traceback, which pytest keeps, holds all that the test had
    # The kernel frees asynchronously, and Python at the next collection.
    deadline = time.monotonic() + 3
    while left := support.Traces().left_since(before):
        assert time.monotonic() < deadline, f"left behind: {left}"
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def name() -> str:
    """Return a name that no other test, run or user has."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def seed() -> int:
    """Return this run's seed, or MEMFAST_SEED; pytest shows the line when a test fails."""
    value = int(os.environ.get("MEMFAST_SEED") or secrets.randbits(32))
    print(f"to repeat: MEMFAST_SEED={value}")
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    """Return a random generator that starts at the seed."""
    return random.Random(seed)
