"""Pressure: the kernel's figures, and a trigger that wakes whoever waits in whatever way."""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

import memfast
from memfast import psi, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not os.access("/proc/pressure/cpu", os.R_OK), reason="this kernel measures no pressure"
)

NEVER = ("memory", 2, 2)  # nobody runs for two whole seconds: not in these tests
OFTEN = ("cpu", 0.02, 2)
LINE = "avg10=1.50 avg60=0.25 avg300=0.00 total=2500001"
STALL = psi.Stall(1.5, 0.25, 0.0, 2.500001)


@pytest.fixture(scope="module", autouse=True)
def files_that_stay_open() -> None:
    """Open what pressure() keeps open, so that no test is blamed for it."""
    for kind in "memory", "io", "cpu":
        psi.pressure(kind)


def unified() -> str | None:
    """Return where cgroups of version 2 can be made."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        point = fields.split()[4]
        if tail.startswith("cgroup2 ") and os.access(f"{point}/cgroup.procs", os.W_OK):
            return point
    return None


@pytest.fixture
def group(name: str) -> Iterator[str]:
    """Make a cgroup of version 2, which is removed again."""
    parent = unified()
    if parent is None or os.geteuid() != 0:
        pytest.skip("takes root and a cgroup2 file system that may be written")
    path = f"{parent}/memfast-{name}"
    os.mkdir(path)
    yield path
    remove(path)


def remove(path: str) -> None:
    def gone() -> bool:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError:  # EBUSY: a task that died is not gone yet
            return False
        return True

    support.until(gone)


@contextmanager
def contention(group: str | None = None) -> Iterator[None]:
    """Have three processes want the same CPU."""
    cpu = min(os.sched_getaffinity(0))
    join = f"echo $$ > {group}/cgroup.procs; " if group else ""
    command = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(cpu)]
    loop = [*command, "sh", "-c", join + "while :; do :; done"]
    burners = [subprocess.Popen(loop) for _ in range(3)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


# ---- reading ----


@pytest.mark.parametrize(
    ("text", "some", "full"),
    [
        (f"some {LINE}\nfull {LINE}\n", STALL, STALL),
        (f"some {LINE}\n", STALL, None),  # cpu before Linux 5.13
        (f"full {LINE}\n", None, STALL),  # irq
        (f"full {LINE}\nsome total=7 new=1 avg300=3.00 avg60=2.00 avg10=100.00", (100, 2, 3, 7e-6),
         STALL),
    ],
)  # fmt: skip
def test_the_lines_of_a_file(tmp_path: Path, text: str, some: object, full: object) -> None:
    """Each line is a record, by its keys in any order; microseconds become seconds."""
    (tmp_path / "io.pressure").write_text(text)
    assert psi.pressure("io", cgroup=tmp_path) == ("io", some, full)


@pytest.mark.parametrize("text", ["", "\n", "some\n", "some avg10=x avg60=1 avg300=1 total=1\n"])
def test_a_text_without_figures_is_an_error(tmp_path: Path, text: str) -> None:
    """What cannot be parsed is EIO that names the file, never a zero."""
    (tmp_path / "io.pressure").write_text(text)
    with pytest.raises(OSError, match=r"io\.pressure") as caught:
        psi.pressure("io", cgroup=tmp_path)
    assert caught.value.errno == errno.EIO


@support.need_root
def test_the_host_s_figures_are_those_of_proc_pressure(tmp_path: Path) -> None:
    """pressure() says what /proc/pressure/memory says, which is the default kind."""
    (tmp_path / "memory").write_text(f"some {LINE}\nfull {LINE}\n")
    code = "import memfast.psi as psi; print(psi.pressure()); print(psi.pressure('memory'))"
    before = f"mount --bind '{tmp_path}/memory' /proc/pressure/memory"
    expected = str(psi.Pressure("memory", STALL, STALL))
    assert support.in_namespace("m", code, before=before).splitlines() == [expected] * 2


@pytest.mark.parametrize("kind", ["memory", "io", "cpu"])
def test_totals_lie_between_two_looks_at_the_file(kind: psi.Kind) -> None:
    """The kernel's own text, read before and after, encloses our figure."""

    def total() -> float:
        text = Path(f"/proc/pressure/{kind}").read_text()
        return int(text.splitlines()[0].rpartition("total=")[2]) / 1e6

    before, found, after = total(), psi.pressure(kind), total()
    assert found.some is not None
    assert before <= found.some.total <= after
    assert 0 <= found.some.avg10 <= 100


def test_a_cgroup_s_pressure_is_its_own(group: str) -> None:
    """Tasks that wait for a CPU count in their own cgroup; those of others do not."""
    silent = f"{group}/silent"
    os.mkdir(silent)
    try:
        with contention(group):
            deadline = time.monotonic() + 20
            while psi.pressure("cpu", cgroup=group).some.total < 0.05:
                assert time.monotonic() < deadline
                time.sleep(0.05)  # read in each tick of its clock, the kernel would count nothing
            assert psi.pressure("cpu", cgroup=silent).some == (0, 0, 0, 0)
    finally:
        remove(silent)


def test_what_is_not_measured_says_why(group: str) -> None:
    """No file, no PSI, pressure switched off in a cgroup, no cgroup: each has its own words."""
    if not os.path.exists("/proc/pressure/irq"):
        with pytest.raises(memfast.NotSupportedError, match="IRQ_TIME_ACCOUNTING") as caught:
            psi.pressure("irq")
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(memfast.NotSupportedError, match="version 2"):
        psi.pressure("cpu", cgroup="/proc")
    with pytest.raises(memfast.NotFoundError, match="no such cgroup"):
        psi.pressure("cpu", cgroup=f"{group}/none")
    with pytest.raises(memfast.NotSupportedError, match="psi=1"):
        # Booted with psi=0 the kernel answers so; this one was not.
        psi._fail(OSError(errno.EOPNOTSUPP, ""), "reading", "/proc/pressure/cpu")
    if os.path.exists(f"{group}/cgroup.pressure"):
        Path(group, "cgroup.pressure").write_text("0")
        with pytest.raises(memfast.NotSupportedError, match=r"cgroup\.pressure is 1"):
            psi.pressure("cpu", cgroup=group)
    with pytest.raises(ValueError, match="'swap'"):
        psi.pressure("swap")  # type: ignore[arg-type]


@support.need_root
def test_a_proc_without_pressure_says_so() -> None:
    """Where /proc shows processes only, the message names that possibility."""
    code = """
import memfast, memfast.psi as psi
try:
    psi.pressure("cpu")
except memfast.NotSupportedError as error:
    print("subset=pid" in str(error), "CONFIG_PSI" in str(error), error.errno)
"""
    said = support.in_namespace("m", code, before="mount -t proc -o subset=pid proc /proc")
    assert said.split() == ["True", "True", str(errno.ENOENT)]


# ---- a trigger ----


def test_the_trigger_fires_and_tells_the_pressure() -> None:
    """Under contention an event comes, of now, with the stall that it was about."""
    with trigger.pressure_watch(*OFTEN) as watch, contention():
        before = watch.now()
        event = watch.wait(20)
        assert before.time < event.time <= time.time()
        assert event.pressure.kind == "cpu"
        assert event.pressure.some.total > before.pressure.some.total
        assert next(watch).time > event.time


def test_no_pressure_is_a_timeout_and_the_watch_goes_on() -> None:
    """A wait runs out after its time, not before; iterating takes the watch's own timeout."""
    with trigger.pressure_watch(*NEVER, timeout=0.05) as watch:
        for wait in (lambda: watch.wait(0.1), lambda: next(watch), lambda: watch.wait(0)):
            begin = time.monotonic()
            with pytest.raises(memfast.WaitTimeout) as caught:
                wait()
            assert caught.value.errno == errno.ETIMEDOUT
        begin = time.monotonic()
        with pytest.raises(memfast.WaitTimeout):
            watch.wait(0.2)
        assert time.monotonic() - begin >= 0.2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cpu", 0.1, 0.4), "window=0.4"),
        (("cpu", 0.1, 10.1), "window=10.1"),
        (("cpu", 0.1, float("nan")), "window=nan"),
        (("cpu", 0, 2), "stall=0"),
        (("cpu", -1, 2), "stall=-1"),
        (("cpu", float("nan"), 2), "stall=nan"),
        (("cpu", 2.1, 2), "stall=2.1"),
        (("disk", 0.1, 2), "'disk'"),
        (("irq", 0.1, 2), "full=True"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_before(
    arguments: tuple[psi.Kind, float, float], said: str
) -> None:
    """A wrong window, stall or kind is a ValueError that names it, and opens nothing."""
    with pytest.raises(ValueError, match=said):
        trigger.pressure_watch(*arguments)


def test_what_would_never_fire_is_refused() -> None:
    """The host's CPUs are never all waited for; a negative timeout would be for ever."""
    with pytest.raises(ValueError, match="never fire"):
        trigger.pressure_watch("cpu", 0.1, 2, full=True)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            trigger.pressure_watch(*NEVER, timeout=timeout)
        with trigger.pressure_watch(*NEVER) as watch, pytest.raises(ValueError, match="timeout"):
            watch.wait(timeout)


def test_the_rule_for_those_without_privilege_is_explained() -> None:
    """Without CAP_SYS_RESOURCE a window of 2 s works; others name the next that would."""

    def unprivileged() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        for window, allowed in ((0.5, 2), (1, 2), (2.000001, 4), (3, 4), (9.9, 10)):
            with pytest.raises(memfast.AccessError, match=f"window={allowed}:") as caught:
                trigger.pressure_watch("memory", 0.1, window)
            assert caught.value.errno == errno.EINVAL
            assert "CAP_SYS_RESOURCE" in str(caught.value)
        for window in (2, 4, 10):
            trigger.pressure_watch("memory", 0.1, window).close()

    with support.forked(unprivileged) as child:
        assert support.exit_status(child) == 0


def test_without_descriptors_nothing_is_left() -> None:
    """Whichever of the descriptors cannot be had: a LimitError, and the others are closed."""
    code = f"""
import os, resource, warnings
import memfast
from memfast import trigger
warnings.simplefilter("error")
def descriptors(): return sorted(os.listdir("/proc/self/fd"))
trigger.pressure_watch(*{NEVER}).close()
before = descriptors()
for more in range(3):
    # The listing's own descriptor has the lowest free number.
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(max(before, key=int)) + more, 64))
    try:
        trigger.pressure_watch(*{NEVER})
    except memfast.LimitError as error:
        print(error.errno)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    assert descriptors() == before
"""
    assert support.run_python(code).split() == [str(errno.EMFILE)] * 3


def test_a_watch_that_nobody_closed_is_closed_when_it_is_gone() -> None:
    """The last reference closes the descriptors, and Python warns as it does of files."""
    before = support.descriptors()
    watch = trigger.pressure_watch(*NEVER)
    assert len(support.descriptors()) == len(before) + 3
    holder = [watch]
    del watch
    with pytest.warns(ResourceWarning):
        holder.clear()
    assert support.descriptors() == before


# ---- who waits, and how it ends ----


def test_closing_ends_the_loop_of_another_thread() -> None:
    """A thread in `for` is woken and goes on behind its loop; closing again does nothing."""
    watch = trigger.pressure_watch(*NEVER)
    ended = threading.Event()

    def iterate() -> None:
        for _ in watch:
            pass
        ended.set()

    threads = [threading.Thread(target=iterate) for _ in range(3)]
    for thread in threads:
        thread.start()
    support.until(lambda: watch._users == 3)
    watch.close()
    for thread in threads:
        thread.join()
    assert ended.is_set()
    assert watch.closed
    watch.close()
    for use in (watch.wait, watch.now, watch.fileno, watch.__enter__):
        with pytest.raises(memfast.ClosedError, match="closed"):
            use()
    assert list(watch) == []


def test_a_signal_handler_may_close() -> None:
    """The handler runs while we wait, and the loop ends."""
    watch = trigger.pressure_watch(*NEVER)
    before = signal.signal(signal.SIGALRM, lambda *_: watch.close())
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert list(watch) == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_waiting_costs_no_cpu() -> None:
    """A second of waiting takes a few microseconds of the CPU."""
    with trigger.pressure_watch(*NEVER) as watch:
        begin = time.thread_time()
        with pytest.raises(memfast.WaitTimeout):
            watch.wait(1)
        assert time.thread_time() - begin < 0.02


def test_a_select_loop_is_told_of_each_event() -> None:
    """fileno() becomes readable for an event, once; now() is what there is to say of it."""
    with trigger.pressure_watch(*OFTEN) as watch, selectors.DefaultSelector() as selector:
        selector.register(watch, selectors.EVENT_READ)
        assert selector.select(0) == []
        with contention():
            assert selector.select(20)
            assert watch.now().pressure.some.total > 0
        assert selector.select(0) == []


def test_after_a_fork_the_watch_is_the_parent_s() -> None:
    """The child is told so; that it closes its copy neither wakes nor ends the parent's."""
    with trigger.pressure_watch(*NEVER) as watch:

        def child() -> None:
            with pytest.raises(memfast.ClosedError, match="belongs to process"):
                watch.wait(0)
            watch.close()

        with support.forked(child) as pid:
            assert support.exit_status(pid) == 0
        with pytest.raises(memfast.WaitTimeout):
            watch.wait(0.1)


def test_a_removed_cgroup_ends_the_wait(group: str) -> None:
    """The death of the cgroup is NotFoundError at once, for a thread and for a task."""

    async def task() -> None:
        for _ in range(2):
            with pytest.raises(memfast.NotFoundError, match="removed"):
                await anext(watch)
        cpu = time.thread_time()
        await asyncio.sleep(0.2)
        assert time.thread_time() - cpu < 0.1, "the loop spins"

    with trigger.pressure_watch("cpu", 0.5, 2, full=True, cgroup=group) as watch:
        with pytest.raises(memfast.WaitTimeout):
            watch.wait(0)
        threading.Timer(0.1, remove, (group,)).start()
        with pytest.raises(memfast.NotFoundError, match="removed"):
            watch.wait(20)
        asyncio.run(task())


# ---- asyncio ----


def test_async_for_lets_other_tasks_run() -> None:
    """Events come while the loop goes on; breaking out and coming back loses nothing."""

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        other = asyncio.create_task(tick())
        with trigger.pressure_watch(*OFTEN, timeout=20) as watch:
            times = []
            for _ in range(2):
                async for event in watch:
                    times.append(event.time)
                    break
        other.cancel()
        assert times[0] < times[1]
        return ticks

    with contention():
        assert asyncio.run(main()) > 5


def test_an_event_between_two_waits_is_kept() -> None:
    """What the kernel told while no task waited is there for the next one that does."""

    async def main() -> None:
        with trigger.pressure_watch(*OFTEN, timeout=20) as watch:
            with contention():
                first = await anext(watch)
                while watch._event is None:
                    await asyncio.sleep(0.05)
            kept = watch._event
            assert await anext(watch) is kept
            assert kept.pressure.some.total > first.pressure.some.total

    asyncio.run(main())


@pytest.mark.parametrize("where", ["same loop", "other thread"])
def test_closing_ends_async_for(where: str) -> None:
    """Tasks in `async for` are woken and go on behind it, whoever closes."""

    async def main() -> None:
        watch = trigger.pressure_watch(*NEVER)
        loop = asyncio.get_running_loop()
        if where == "same loop":
            loop.call_later(0.1, watch.close)
        else:
            threading.Timer(0.1, watch.close).start()

        async def iterate() -> list[object]:
            return [event async for event in watch]

        assert await asyncio.gather(iterate(), iterate()) == [[], []]
        assert watch._epoll.closed
        assert [event async for event in watch] == []

    asyncio.run(main())


def test_an_async_timeout_and_a_cancelled_wait_leave_the_watch_usable() -> None:
    """After WaitTimeout, a cancelled task and the end of the loop, others may wait."""

    async def main() -> None:
        with pytest.raises(memfast.WaitTimeout):
            await anext(watch)
        task = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(memfast.WaitTimeout):
            await anext(watch)

    with trigger.pressure_watch(*NEVER, timeout=0.05) as watch:
        for _ in range(2):
            asyncio.run(main())
        with pytest.raises(memfast.WaitTimeout):
            next(watch)
