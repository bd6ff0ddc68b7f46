"""What ``memfast ipcs`` shows beside lists: limits, sums, and all about one object."""

from __future__ import annotations

import json
import os

from memfast import sysv
from memfast.cli.ipcs_tables import when
from memfast.cli.output import KIB
from memfast.cli.swaps import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

_MAX = (1 << 64) - 1
_DEST, _LOCKED = 0o1000, 0o2000  # shmctl(2): in the mode


def sums(options: argparse.Namespace, kinds: Sequence[str]) -> str:
    """Return the limits, or what is in use, of some kinds."""
    if options.json:
        limits = options.view == "limits"
        return json.dumps((sysv.limits() if limits else sysv.usage())._asdict()) + "\n"
    if options.view == "limits":
        parts = _limits(options, sysv.limits())
    else:
        parts = _usage(options, sysv.usage())
    return "\n" + "".join(parts[kind] + "\n" for kind in kinds)


def _sized(options: argparse.Namespace, name: str, size: int) -> str:
    if options.unit == "human":
        return f"{name} = {human(size)}\n"
    return f"{name} (bytes) = {size}\n"


def _saturated(number: int, factor: int) -> int:
    """Multiply as ipcs(1) does: what is too large becomes the largest multiple there is."""
    product = number * factor
    return product if product <= _MAX else _MAX - _MAX % factor


def _limits(options: argparse.Namespace, limits: sysv.Limits) -> dict[str, str]:
    page = os.sysconf("SC_PAGESIZE")
    if options.unit is None:
        sizes = (
            f"max seg size (kbytes) = {limits.shmmax // KIB}\n"
            f"max total shared memory (kbytes) = {_saturated(limits.shmall, page // KIB)}\n"
        )
    else:
        sizes = _sized(options, "max seg size", limits.shmmax) + _sized(
            options, "max total shared memory", _saturated(limits.shmall, page)
        )
    return {
        "msg": "------ Messages Limits --------\n"
        f"max queues system wide = {limits.msgmni}\n"
        + _sized(options, "max size of message", limits.msgmax)
        + _sized(options, "default max size of queue", limits.msgmnb),
        "shm": "------ Shared Memory Limits --------\n"
        f"max number of segments = {limits.shmmni}\n"
        + sizes
        + _sized(options, "min seg size", limits.shmmin),
        "sem": "------ Semaphore Limits --------\n"
        f"max number of arrays = {limits.semmni}\n"
        f"max semaphores per array = {limits.semmsl}\n"
        f"max semaphores system wide = {limits.semmns}\n"
        f"max ops per semop call = {limits.semopm}\n"
        f"semaphore max value = {limits.semvmx}\n",
    }


def _usage(options: argparse.Namespace, usage: sysv.Usage) -> dict[str, str]:
    space = f"used space = {usage.message_bytes} bytes\n"
    if options.unit is not None:
        space = _sized(options, "used space", usage.message_bytes)
    return {
        "msg": "------ Messages Status --------\n"
        f"allocated queues = {usage.queues}\n"
        f"used headers = {usage.messages}\n{space}",
        "shm": "------ Shared Memory Status --------\n"
        f"segments allocated {usage.segments}\n"
        f"pages allocated {usage.shm_pages}\n"
        f"pages resident  {usage.shm_resident_pages}\n"
        f"pages swapped   {usage.shm_swapped_pages}\n"
        f"Swap performance: {usage.shm_swap_attempts} attempts"
        f"\t {usage.shm_swap_successes} successes\n",
        "sem": "------ Semaphore Status --------\n"
        f"used arrays = {usage.semaphore_arrays}\n"
        f"allocated semaphores = {usage.semaphores}\n",
    }


def details(options: argparse.Namespace, kind: str, one: Any) -> str:
    """Return all about one object."""
    values = sysv.semaphore_values(one.id, one.nsems) if kind == "sem" else []
    if options.json:
        known = as_json(one)
        if kind == "sem":
            known["semaphores"] = [value._asdict() for value in values]
        return json.dumps(known) + "\n"
    if kind == "shm":
        return _segment(options, one)
    return _queue(options, one) if kind == "msg" else _array(one, values)


def as_json(one: Any) -> dict[str, Any]:
    """Return a record without what was not asked for."""
    return {name: value for name, value in one._asdict().items() if value is not None}


def _octal(mode: int) -> str:
    return f"0{mode:o}" if mode else "0"


def _segment(options: argparse.Namespace, one: sysv.SegmentInfo) -> str:
    mode = one.mode | _DEST * one.dest | _LOCKED * one.locked
    size = f"size={human(one.size)}" if options.unit == "human" else f"bytes={one.size}"
    return (
        f"\nShared memory Segment shmid={one.id}\n"
        f"uid={one.uid}\tgid={one.gid}\tcuid={one.cuid}\tcgid={one.cgid}\n"
        f"mode={_octal(mode)}\taccess_perms={_octal(one.mode)}\n"
        f"{size}\tlpid={one.last_pid}\tcpid={one.creator_pid}\tnattch={one.nattch}\n"
        f"att_time={when(one.attach_time):<26}\n"
        f"det_time={when(one.detach_time):<26}\n"
        f"change_time={when(one.change_time):<26}\n\n"
    )


def _queue(options: argparse.Namespace, one: sysv.MessageQueue) -> str:
    sizes = f"cbytes={one.used_bytes}\tqbytes={one.limit_bytes}"
    if options.unit == "human":
        sizes = f"csize={human(one.used_bytes)}\tqsize={human(one.limit_bytes)}"
    return (
        f"\nMessage Queue msqid={one.id}\n"
        f"uid={one.uid}\tgid={one.gid}\tcuid={one.cuid}\tcgid={one.cgid}\tmode={_octal(one.mode)}\n"
        f"{sizes}\tqnum={one.messages}\tlspid={one.send_pid}\tlrpid={one.receive_pid}\n"
        f"send_time={when(one.send_time):<26}\n"
        f"rcv_time={when(one.receive_time):<26}\n"
        f"change_time={when(one.change_time):<26}\n\n"
    )


def _array(one: sysv.SemaphoreArray, values: Sequence[sysv.Semaphore]) -> str:
    rows = [
        f"{number:<10} {value.value:<10} {value.waiting_increase:<10}"
        f" {value.waiting_zero:<10} {value.last_pid:<10}\n"
        for number, value in enumerate(values)
    ]
    return (
        f"\nSemaphore Array semid={one.id}\n"
        f"uid={one.uid}\t gid={one.gid}\t cuid={one.cuid}\t cgid={one.cgid}\n"
        f"mode={_octal(one.mode)}, access_perms={_octal(one.mode)}\n"
        f"nsems = {one.nsems}\n"
        f"otime = {when(one.operation_time):<26}\n"
        f"ctime = {when(one.change_time):<26}\n"
        "semnum     value      ncount     zcount     pid       \n" + "".join(rows) + "\n"
    )
