"""Memory cgroups: which limits bind a process, its own group's and those of all above it."""

from __future__ import annotations

import errno
import os

from memfast import _fast, errors, kerneltext, process_errors
from memfast.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

__all__ = ["Cgroup", "CgroupLevel", "cgroup"]

# v1 says "no limit" as LONG_MAX rounded down to its page size; nothing real is as large.
_NO_LIMIT = 1 << 62


class CgroupLevel(NamedTuple):
    """One cgroup and what all tasks in it and below it take together; bytes."""

    path: str  # its directory
    limit: int | None  # more than this the kernel gives to nobody in it; None: no limit here
    high: int | None  # above this it slows them down (memory.high); None: not set, or v1
    usage: int  # page cache included
    working_set: int  # usage less inactive_file: what Kubernetes calls used
    inactive_file: int  # page cache that nobody used lately: the first to be given up
    active_file: int  # page cache that is in use
    slab_reclaimable: int | None  # None: v1 does not say it
    swap_limit: (
        int | None
    )  # None: none, or swap is not accounted; v1: what both may take less limit
    swap_usage: int | None  # None: swap is not accounted
    headroom: int | None  # limit less working_set, never below 0; None: no limit here


class Cgroup(NamedTuple):
    """The memory cgroup of a process, and all above it that this process can see."""

    version: (
        str | None
    )  # "v1", "v2", "hybrid" (memory is in v1, v2 is mounted too); None: no cgroup
    path: str  # in the hierarchy, as /proc/PID/cgroup says it; "" if there is none
    mount: str  # where the hierarchy is mounted; "" if it is not
    limit: int | None  # bytes: the least of the levels, and of v1's ancestors out of sight
    available: int | None  # bytes: the least headroom of all that have a limit; None: no limit
    levels: tuple[CgroupLevel, ...]  # the process's own first, then its parents up to the mount

    @property
    def binding(self) -> CgroupLevel | None:
        """The nearest level with that ``limit``; None: there is none, or it is out of sight."""
        for level in self.levels:
            if level.limit is not None and level.limit == self.limit:
                return level
        return None


# ---- where a process is ----


def _fail(error: OSError, pid: int | None) -> NoReturn:
    code = error.errno or errno.EIO
    whose = "this process" if pid is None else f"process {pid}"
    tried = f"reading the cgroup of {whose}"
    if code == errno.ENOENT and not os.path.exists("/proc/self"):
        errors.raise_errno(-code, f"{tried}: /proc is not mounted", errors.NotSupportedError)
    if code in (errno.ENOENT, errno.ESRCH):
        errors.raise_errno(-errno.ESRCH, f"{tried}: it is gone, or hidden by /proc's hidepid=")
    errors.raise_errno(-code, tried)


def _folder(pid: int | None) -> str:
    number = process_errors.checked_pid(pid)
    return f"/proc/{number}" if number else "/proc/self"


def _groups(text: bytes) -> tuple[str | None, str | None]:
    """Return the paths in v1's hierarchy of memory and in v2's, cgroups(7): "4:memory:/path"."""
    v1 = v2 = None
    for line in text.splitlines():
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if b"memory" in controllers.split(b","):
            v1 = os.fsdecode(path)
        elif number == b"0" and not controllers:
            v2 = os.fsdecode(path)
    return v1, v2


def _mounts(text: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return {mount point: root} of v1's memory hierarchy and of v2, proc_pid_mountinfo(5)."""
    v1: dict[str, str] = {}
    v2: dict[str, str] = {}
    for line in text.splitlines():
        fields, _, tail = line.partition(b" - ")
        words, about = fields.split(b" "), tail.split(b" ")
        if len(words) < 5 or len(about) < 3 or not about[0].startswith(b"cgroup"):
            continue
        root, point = kerneltext.unescape(words[3]), kerneltext.unescape(words[4])
        if about[0] == b"cgroup2":
            v2[point] = root
        elif about[0] == b"cgroup" and b"memory" in about[2].split(b","):
            v1[point] = root
    return v1, v2


def _inside(root: str, path: str) -> str | None:
    """Return what of *path* is below a mount whose root is *root*: "" is the mount itself."""
    if root != "/":
        if path != root and not path.startswith(root + "/"):
            return None
        path = path[len(root) :]
    inside = path.rstrip("/")
    return None if ".." in inside.split("/") else inside


def _place(mounts: dict[str, str], path: str, root: str) -> tuple[str, str | None]:
    """
    Return a mount point and the path of the group below it; None: it is outside of what we see.

    In a container /proc may say a path that the mount does not show, which
    shows the container's own part: then its nearest parent stands for the
    group, at last the mount's root.
    """
    fitting = {point: _inside(shown, path) for point, shown in mounts.items()}
    for point, inside in fitting.items():
        if inside is not None and os.path.isdir(root + point + inside):
            return point, inside
    point, inside = next(iter(fitting.items()))
    if inside is None:
        return point, None if ".." in path.split("/") else ""
    while inside and not os.path.isdir(root + point + inside):
        inside = inside.rpartition("/")[0]
    return point, inside


# ---- what binds there ----


def _number(path: str, root: str) -> int | None:
    """Return the number in a file; None if there is none: "max", no such file, or not for us."""
    try:
        text = kerneltext.read(path, root).strip()
    except OSError:
        return None
    number = int(text) if text.isdigit() else _NO_LIMIT
    return number if number < _NO_LIMIT else None


def _stat(folder: str, root: str) -> dict[str, int]:
    try:
        return _fast.table(kerneltext.read(f"{folder}/memory.stat", root))
    except OSError:
        return {}


def _level(folder: str, stat: dict[str, int], v1: bool, root: str) -> CgroupLevel | None:
    """Return what one group says; None if it has no memory controller: its parents bind."""

    def number(file: str) -> int | None:
        return _number(f"{folder}/memory.{file}", root)

    usage = number("usage_in_bytes" if v1 else "current")
    if usage is None:
        return None
    if v1:
        prefix = "total_"  # with the groups below, as usage is
        limit, high = number("limit_in_bytes"), None
        both_limit = number("memsw.limit_in_bytes")
        swap_limit = None if both_limit is None else max(both_limit - (limit or 0), 0)
        swap_usage = stat.get("total_swap")
    else:
        prefix = ""
        limit, high = number("max"), number("high")
        swap_limit, swap_usage = number("swap.max"), number("swap.current")
    inactive_file = stat.get(f"{prefix}inactive_file", 0)
    working_set = max(usage - inactive_file, 0)  # the kernel counts each for itself, in batches
    return CgroupLevel(
        folder,
        limit,
        high,
        usage,
        working_set,
        inactive_file,
        stat.get(f"{prefix}active_file", 0),
        stat.get("slab_reclaimable"),
        swap_limit,
        swap_usage,
        None if limit is None else max(limit - working_set, 0),
    )


def _chain(mount: str, inside: str, v1: bool, root: str) -> Iterator[tuple[CgroupLevel, int]]:
    """Give each level up to the mount, and the least limit that is known there."""
    while True:
        stat = _stat(mount + inside, root)
        level = _level(mount + inside, stat, v1, root)
        if level is not None:
            # v1 knows the least limit of all above it, of those out of our sight too.
            least = stat.get("hierarchical_memory_limit", _NO_LIMIT)
            yield level, least if level.limit is None else min(least, level.limit)
        if not inside:
            return
        inside = inside.rpartition("/")[0]
        # Before Linux 5.11 a group of v1 might be set not to count what is below it.
        if v1 and _number(f"{mount}{inside}/memory.use_hierarchy", root) == 0:
            return


def _cgroup(pid: int | None, root: str) -> Cgroup:
    """Do what ``cgroup()`` says, with every path below *root*."""
    folder = _folder(pid)
    try:
        v1_path, v2_path = _groups(kerneltext.read(f"{folder}/cgroup", root))
        v1_mounts, v2_mounts = _mounts(kerneltext.read("/proc/self/mountinfo", root))
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.exists(root + folder):
            return Cgroup(None, "", "", None, None, ())  # a kernel without CONFIG_CGROUPS
        _fail(error, pid)
    v1 = v1_path is not None  # a controller is in one hierarchy, in v2's if in no other
    path, mounts = (v1_path, v1_mounts) if v1 else (v2_path, v2_mounts)
    if path is None or not mounts:
        return Cgroup(None, path or "", "", None, None, ())
    mount, inside = _place(mounts, path, root)
    chain = [] if inside is None else list(_chain(mount, inside, v1, root))
    bounds = [(least, level.working_set) for level, least in chain if least < _NO_LIMIT]
    return Cgroup(
        "v2" if not v1 else "hybrid" if v2_mounts else "v1",
        path,
        mount,
        min((least for least, _ in bounds), default=None),
        min((max(least - used, 0) for least, used in bounds), default=None),
        tuple(level for level, _ in chain),
    )


def cgroup(pid: int | None = None) -> Cgroup:
    """
    Tell which memory cgroup a process is in, and what it and those above it limit and use.

    Anyone may ask. Costs about five reads of small files for each level, and
    the kernel sums up a group's counters for one of them. No cgroup is no
    error: nothing binds then. Limits that this process cannot see, because a
    container's mount hides the groups above, are counted where v1 tells them.

    Args:
        pid: A process id; None: this process.

    Raises:
        ProcessLookupError: There is no such process.

        NotSupportedError: /proc is not mounted.

    Source: /proc/PID/cgroup and mountinfo, then memory.max, high, current,
    swap.* and stat (cgroup-v2), or memory.limit_in_bytes and its like (v1).
    """
    return _cgroup(pid, "")
