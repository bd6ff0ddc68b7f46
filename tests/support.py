"""What tests share: children on a leash, namespaces, and a picture of all that could leak."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
NAMES = Path(f"/dev/shm/memfast-{os.geteuid()}")
SEGMENT_MARK = 3955  # MF_SEGMENT_MARK, csrc/layout.h
CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000  # clone(2)
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # mount(2)
PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)

need_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# ---- children ----


def python(code: str, *args: object) -> list[str]:
    """Return the command that runs *code* in a new interpreter, killed when we die."""
    return ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", code, *map(str, args)]


def run_python(code: str, *args: object, timeout: float = 30) -> str:
    """Run *code* in a new interpreter and return what it printed; its failure is the test's."""
    return _output(python(code, *args), timeout)


def _output(command: list[str], timeout: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"exit {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def python_child(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Start *code* in a new interpreter with pipes to it; it is killed and reaped at the end."""
    child = subprocess.Popen(
        python(code, *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """Run *function* in a forked child and give its pid; killed and reaped at the end."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run_and_exit(function, parent)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # the test has reaped it


def _run_and_exit(function: Callable[[], object], parent: int) -> NoReturn:
    status = 1
    try:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() == parent:
            function()
            status = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(status)


def exit_status(pid: int, timeout: float = 30) -> int:
    """Reap a forked child and return its exit status; minus the signal if it was killed."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    raise AssertionError(f"process {pid} still runs after {timeout} s")


def swallow(kind: type[BaseException], call: Callable[[], object]) -> None:
    """Call, and take that exception as an ordinary end."""
    try:
        call()
    except kind:
        pass


def until(condition: Callable[[], object], timeout: float = 10) -> None:
    """Wait until *condition* holds; the test fails if it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout} s"
        time.sleep(0.002)


# ---- namespaces ----


@functools.cache
def _unshare_refusal(flags: tuple[str, ...]) -> str:
    if shutil.which("unshare") is None:
        return "unshare(1) is not installed (util-linux)"
    done = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def in_namespace(
    flags: str, code: str, *args: object, before: str = "", timeout: float = 30
) -> str:
    """
    Run Python *code* in new namespaces and return what it printed.

    Args:
        flags: Letters of unshare(1): ``i`` System V IPC, ``m`` mounts, ``p`` pids (with its /proc).

        before: Shell commands to run there first, such as a mount.
    """
    options = tuple(f"-{flag}" for flag in flags)
    if "p" in flags:
        options += ("--fork", "--mount-proc", "--kill-child")
    refusal = _unshare_refusal(options)
    if refusal:
        pytest.skip(refusal)
    script = f'set -e\n{before}\nexec "$@"'
    return _output(
        ["unshare", *options, "sh", "-c", script, "sh", *python(code, *args)],
        timeout,
    )


def isolate() -> None:
    """
    Give this process and its children an IPC namespace and a /dev/shm of their own.

    So the tests see no segment but their own, nobody else sees theirs, and the
    kernel drops them all with the last process. Where that is not permitted,
    nothing changes. To be called once, before the first thread: unshare(2)
    moves the calling thread alone.
    """
    if (
        _libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0
        and _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and _libc.mount(b"shm", b"/dev/shm", b"tmpfs", 0, b"mode=1777") == 0
    ):
        os.environ["MEMFAST_TESTS"] = "isolated"  # the children are, too


def isolated() -> bool:
    """Return whether isolate() was permitted."""
    return os.environ.get("MEMFAST_TESTS") == "isolated"


# ---- what could leak ----


def segments() -> set[tuple[int, int, int]]:
    """Return (id, size, creator's pid) of each System V segment in sight."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {(int(row[1]), int(row[3]), int(row[4])) for row in rows}


def own_segments() -> set[tuple[int, int, int]]:
    """Return the segments that a test answers for: all in sight if isolated."""
    if isolated():
        return segments()
    family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return {row for row in segments() if row[1] % 4096 == SEGMENT_MARK or row[2] in family}


def descriptors() -> dict[int, str]:
    """Return this process's open file descriptors and what they lead to."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            pass  # the listing's own
    return found


class Traces:
    """All that a test could leave behind: segments, names, descriptors, child processes."""

    __slots__ = ("children", "descriptors", "names", "segments")

    def __init__(self) -> None:
        self.segments = own_segments()
        self.names = set(os.listdir(NAMES)) if NAMES.is_dir() else set()
        self.descriptors = descriptors()
        self.children = set(psutil.Process().children(recursive=True))

    def left_since(self, before: Traces) -> dict[str, Any]:
        """Return what is here now and was not before, by kind; empty if nothing."""
        opened = {
            number: target
            for number, target in self.descriptors.items()
            if before.descriptors.get(number) != target
        }
        left = {
            "segments (id, size, creator)": self.segments - before.segments,
            "names": self.names - before.names,
            "descriptors": opened,
            "children": {str(child) for child in self.children - before.children},
        }
        return {kind: things for kind, things in left.items() if things}
