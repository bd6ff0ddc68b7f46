"""
The step-killer: run a function in a forked child and kill it before its n-th instruction.

It steps the very ``.so`` files that users and benchmarks run.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).resolve().parent.parent / "csrc" / "stepper.c"
PTRACE_TRACEME = 0


class _Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_ulong), ("end", ctypes.c_ulong))


@cache
def _stepper() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "stepper.so"
        command = ["gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(target)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(target))


@cache
def _text(module: ModuleType) -> tuple[int, int, int]:
    """Return where a module is loaded: its base, and the bounds of its code."""
    bounds = []
    base = None
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == module.__file__:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if int(fields[2], 16) == 0 and base is None:
                base = start
            if "x" in fields[1]:
                bounds += [start, end]
    assert base is not None
    return base, min(bounds), max(bounds)


@cache
def address_of(module: ModuleType, function: str) -> int:
    """Return the address of a C function inside a loaded module."""
    output = subprocess.run(
        ["nm", str(module.__file__)], check=True, capture_output=True, text=True
    ).stdout
    for line in output.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2] == function:
            return _text(module)[0] + int(fields[0], 16)
    raise LookupError(f"{function} is not in {module.__file__}")


def kill_at(
    module: ModuleType, function: str, boundary: int, body: Callable[[], object], *, whole: bool
) -> tuple[bool, int]:
    """
    Run *body* in a child and kill it before instruction *boundary* of *function*.

    Args:
        whole: Count the instructions of libc too; otherwise a call into it counts as one.

    Returns:
        Whether it was killed inside, and the child's pid.
    """
    entry = address_of(module, function)
    _, start, end = _text(module)
    libc = ctypes.CDLL(None)
    stepper = _stepper()
    gc.disable()
    pid = os.fork()
    if pid == 0:
        libc.ptrace(PTRACE_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            body()
        finally:
            os._exit(3)
    gc.enable()
    steps = ctypes.c_ulong()
    bounds = _Range(0, 0) if whole else _Range(start, end)
    status = stepper.stepper_kill(
        pid,
        ctypes.c_ulong(entry),
        ctypes.byref(bounds),
        ctypes.c_ulong(boundary),
        ctypes.byref(steps),
    )
    assert status >= 0, f"step-killer: {os.strerror(-status)} at boundary {boundary}"
    return status == 1, pid


def boundaries(
    module: ModuleType,
    function: str,
    prepare: Callable[[], tuple[Callable[[], object], Callable[[int, int], None]]],
    *,
    whole: bool = True,
    limit: int = 20_000,
) -> int:
    """
    Kill at every boundary in turn until the function returns unharmed; return how many there were.

    *prepare* makes a fresh world and returns what the child runs and how a
    survivor checks it, given the boundary and the pid of the dead.
    """
    for boundary in range(limit):
        body, check = prepare()
        killed, pid = kill_at(module, function, boundary, body, whole=whole)
        try:
            check(boundary, pid)
        except BaseException:
            print(f"{function}: killed before instruction {boundary}", file=sys.stderr)
            raise
        if not killed:
            assert boundary > 0
            return boundary
    raise AssertionError(f"{function} did not return within {limit} instructions")
