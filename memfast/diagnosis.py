"""
What on this machine stands in the way of shared memory, and what to do about it: doctor().

A composition: it asks the nouns, and tries each feature of the kernel on something
small of its own. It changes nothing and leaves nothing.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
import stat

from memfast import (
    cgroups,
    errors,
    kerneltext,
    name_errors,
    namedir,
    nodes,
    probe,
    psi,
    surroundings,
    sysmem,
    sysvlist,
)
from memfast.findings import Finding, share, size
from memfast.segment import Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finding", "doctor"]

_MIB = 1 << 20
_SHM_SMALL = 64 * _MIB  # what Docker and Kubernetes give a container
_SHMMAX_SMALL = 64 * _MIB  # Linux before 3.16 had 32 MiB; since then there is no bound
_MEMLOCK_USUAL = 8 * _MIB  # Linux since 5.16
_NEARLY = 0.9  # of a limit: near enough to say so
_SYSTEM_UID_MAX = 999  # logind spares system users


def _number(path: str) -> int:
    return int(kerneltext.read(path).split()[0])


# ---- /dev/shm: where names are ----


def _shm() -> Iterator[Finding]:
    what, root = name_errors.ROOT, name_errors.ROOT
    state = namedir.state(os.geteuid())
    if state == -errno.ENODEV:
        advice = "mount -t tmpfs -o mode=1777 shm /dev/shm; without it memfast works without names"
        yield Finding("warning", what, "missing, or no tmpfs", advice)
        return
    found, status = os.statvfs(root), os.stat(root)
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    figure = f"{size(total)}, {share(total - free, total)} used"
    if total and free < (1 - _NEARLY) * total:
        advice = "named maps will be refused; see who fills it: ls -lS /dev/shm, memfast ls"
        yield Finding("warning", what, figure, advice)
    elif 0 < total <= _SHM_SMALL:
        advice = (
            "as containers have it: named maps and multiprocessing fill it soon; docker run"
            " --shm-size=1g, or mount -o remount,size=1g /dev/shm. Channels do not live there"
        )
        yield Finding("warning", what, figure, advice)
    else:
        yield Finding("ok", what, figure, "")
    if stat.S_IMODE(status.st_mode) != 0o1777:
        advice = "others cannot make names there, or may take each other's away: chmod"
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}, not 1777"
        yield Finding("warning", f"{what} permissions", mode, f"{advice} 1777 {root}")
    if state not in (0, -errno.ENOENT):
        path = namedir.path_of(os.geteuid())
        yield Finding("warning", path, os.strerror(-state), name_errors.reason(state))


def _logind() -> Iterator[Finding]:
    what, value = "RemoveIPC", surroundings.remove_ipc()
    if value is None:
        yield Finding("ok", what, "no systemd-logind here", "")
        return
    user = os.geteuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    if not value:
        yield Finding("ok", what, "no", "")
    elif user <= _SYSTEM_UID_MAX:
        yield Finding("ok", what, "yes, but not for system users", "")
    elif surroundings.lingers(name):
        yield Finding("ok", what, f"yes, but {name} lingers", "")
    else:
        advice = (
            "at this user's last logout logind removes the names, and segments with a key that"
            f" nobody has attached: loginctl enable-linger {name}, or RemoveIPC=no in"
            " /etc/systemd/logind.conf, or run the service as a system user"
        )
        yield Finding("warning", what, "yes", advice)


# ---- System V: where channels and segments are ----


def _segments() -> Iterator[Finding]:
    try:
        with Segment.create(1) as made, Segment.open(id=made.id):
            yield Finding("ok", "System V segments", "can be made, and opened once marked", "")
    except OSError as error:
        advice = "channels and segments need them; see the reason, then the limits below"
        yield Finding("warning", "System V segments", str(error), advice)


def _limits() -> Iterator[Finding]:
    usage, limits = sysvlist.usage(), sysvlist.limits()
    small = limits.shmmax < _SHMMAX_SMALL
    advice = "larger segments are refused: memfast limits set shmmax VALUE" if small else ""
    figure = "no bound" if limits.shmmax >= 1 << 60 else f"{size(limits.shmmax)} a segment"
    yield Finding("warning" if small else "ok", "kernel.shmmax", figure, advice)
    for name, used, limit, unit in (
        ("shmall", usage.shm_pages, limits.shmall, "pages"),
        ("shmmni", usage.segments, limits.shmmni, "segments"),
    ):
        near = used >= _NEARLY * limit
        advice = f"see whose they are: memfast ipcs -m; or memfast limits set {name} {2 * limit}"
        bound = "any number of" if limit >= 1 << 60 else str(limit)
        figure = f"{used} of {bound} {unit}"
        yield Finding("warning" if near else "ok", f"kernel.{name}", figure, advice if near else "")
    if _number("/proc/sys/kernel/shm_rmid_forced"):
        advice = "segments with a key go at their creator's end, unless attached elsewhere"
        yield Finding("note", "kernel.shm_rmid_forced", "1", advice)


# ---- the kernel ----


def _features() -> Iterator[Finding]:
    release, filtered = os.uname().release, surroundings.seccomp()
    for feature in probe.FEATURES:
        status = probe.attempt(feature)
        if status == 0:
            yield Finding("ok", feature.name, "works", "")
            continue
        if status in (-errno.EPERM, -errno.EACCES):
            figure = f"refused{', by a seccomp profile it seems' if filtered else ''}"
            cure = "let the profile of the container allow it" if filtered else "ask who refuses"
        elif status == -errno.ENOSPC:
            figure, cure = f"refused ({os.strerror(-status)})", "raise user.max_user_namespaces"
        else:
            figure = f"missing ({os.strerror(-status)})"
            cure = f"Linux {feature.since} or later has it, this is {release}"
        severity = "warning" if feature.matters else "note"
        yield Finding(severity, feature.name, figure, f"{feature.without}; {cure}")


def _pressure() -> Iterator[Finding]:
    try:
        some = psi.pressure("memory").some
        stall = some.avg60 if some else 0.0
        yield Finding("ok", "pressure (PSI)", f"memory: {stall:.1f}% of the last minute", "")
    except OSError as error:
        advice = "memfast psi has nothing to tell; boot with psi=1, Linux 4.20 or later"
        yield Finding("note", "pressure (PSI)", error.strerror or str(error), advice)


def _proc() -> Iterator[Finding]:
    options = surroundings.proc_options()
    hidden = options.get("hidepid", "0") not in ("0", "off")
    if not surroundings.proc_is_ours():
        advice = "it is another pid namespace's: deaths go unseen; unshare --mount-proc, or mount"
        yield Finding("warning", "/proc", "not this pid namespace's", f"{advice} it anew")
    elif options.get("subset") == "pid":
        advice = "meminfo, vmstat and sysvipc cannot be read; mount it without subset=pid"
        yield Finding("warning", "/proc", "subset=pid", advice)
    elif hidden:
        advice = "figures of other users' processes are not to be had; the gid= of the mount may"
        yield Finding("note", "/proc", f"hidepid={options['hidepid']}", advice)
    else:
        yield Finding("ok", "/proc", "shows every process", "")


# ---- how much memory there is, and who says so ----


def _container() -> Iterator[Finding]:
    kind, spaces = surroundings.container(), surroundings.foreign_namespaces()
    if kind or spaces:
        figure = kind or "no sign of one"
        if spaces:
            figure += f"; own {', '.join(spaces)} namespace{'s' * (len(spaces) > 1)}"
        advice = (
            "ids and limits of segments are those of this IPC namespace; processes of other pid"
            " namespaces count as alive for ever; memory figures are the host's but for limits"
        )
        yield Finding("note", "container", figure, advice)
    else:
        yield Finding("ok", "container", "none", "")
    machine, shown = sysmem.sysinfo().totalram, sysmem.free().mem.total
    if machine != shown:
        figure = f"/proc/meminfo says {size(shown)}, sysinfo(2) {size(machine)}"
        advice = (
            "lxcfs or the like: what is in /proc/meminfo is the container's, the rest the host's"
        )
        yield Finding("note", "/proc/meminfo", figure, advice)


def _cgroup() -> Iterator[Finding]:
    group = cgroups.cgroup()
    if group.limit is None or group.available is None:
        yield Finding("ok", "memory cgroup", "no limit", "")
        return
    where = group.binding.path if group.binding else "a group out of sight"
    figure = f"{size(group.available)} left of {size(group.limit)}, set at {where}"
    near = group.available < (1 - _NEARLY) * group.limit
    advice = "more is an OOM kill, whatever free says; raise memory.max or use less" if near else ""
    yield Finding("warning" if near else "ok", "memory cgroup", figure, advice)


def _memory() -> Iterator[Finding]:
    free = sysmem.free()
    if free.swap.total == 0:
        advice = "pages of programs and of shared memory cannot leave; a shortage is an OOM kill"
        yield Finding("note", "swap", "none", advice)
    else:
        figure = f"{size(free.swap.total)}, {share(free.swap.used, free.swap.total)} used"
        yield Finding("ok", "swap", figure, "")
    mode, commit = _number("/proc/sys/vm/overcommit_memory"), free.commit
    figure = f"{size(commit.committed)} of {size(commit.limit)} promised"
    if mode == 2:
        near = commit.committed >= _NEARLY * commit.limit
        advice = "what is promised is bounded, untouched memory too: vm.overcommit_ratio raises it"
        yield Finding("warning" if near else "note", "vm.overcommit_memory", f"2: {figure}", advice)
    else:
        yield Finding("ok", "vm.overcommit_memory", f"{mode}: not bounded", "")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    figure = "unlimited" if limit == resource.RLIM_INFINITY else size(limit)
    low = limit != resource.RLIM_INFINITY and limit < _MEMLOCK_USUAL
    advice = "mlock() and cache pin stop there: ulimit -l, LimitMEMLOCK=, or CAP_IPC_LOCK"
    yield Finding("note" if low else "ok", "RLIMIT_MEMLOCK", figure, advice if low else "")
    try:
        huge = nodes.transparent_hugepages()
    except errors.NotSupportedError:
        yield Finding("note", "transparent huge pages", "not in this kernel", "")
        return
    never = huge.enabled == "never"
    advice = "advise('hugepage') does nothing; /sys/kernel/mm/transparent_hugepage/enabled"
    figure = f"{huge.enabled}; shared memory: {huge.shmem or 'never'}"
    yield Finding(
        "note" if never else "ok", "transparent huge pages", figure, advice if never else ""
    )


_CHECKS = (
    _shm,
    _logind,
    _segments,
    _limits,
    _features,
    _pressure,
    _proc,
    _container,
    _cgroup,
    _memory,
)


def doctor() -> list[Finding]:
    """
    Look at what shared memory depends on here, and say what is wrong and what to do about it.

    Anyone may ask. Each feature of the kernel is tried on something small of this process's own,
    since versions tell nothing of seccomp and containers; nothing is changed and nothing left.
    Costs a few milliseconds: some forty small files, and one call for each System V segment.

    Returns:
        A record for each thing looked at. ``severity`` is "ok", "note" or "warning".
    """
    found: list[Finding] = []
    for check in _CHECKS:
        try:
            found += check()
        except (OSError, ValueError, IndexError) as error:
            what = f"checks of {check.__name__.strip('_')}"
            found.append(Finding("note", what, str(error), "not all could be looked at"))
    return found
