"""Where this process runs: containers, namespaces, what /proc hides, and what logind removes."""

from __future__ import annotations

import errno
import os

from memfast import kerneltext

__all__ = [
    "container",
    "foreign_namespaces",
    "lingers",
    "proc_is_ours",
    "proc_options",
    "remove_ipc",
    "seccomp",
]

# Inodes of the namespaces that the kernel boots with: include/linux/proc_ns.h, the same since 3.8.
_INITIAL = {"ipc": 0xEFFFFFFF, "user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}
# By precedence, logind.conf(5): a file hides those of the same name further on.
_LOGIND_FOLDERS = (
    "/etc/systemd/logind.conf.d",
    "/run/systemd/logind.conf.d",
    "/usr/local/lib/systemd/logind.conf.d",
    "/usr/lib/systemd/logind.conf.d",
)
_LOGIND_FILES = ("/etc/systemd/logind.conf", "/usr/lib/systemd/logind.conf")
_BOOLEANS = dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True) | dict.fromkeys(
    ("0", "no", "n", "false", "f", "off"), False
)
_WORDS = {"docker": "Docker", "kubepods": "Kubernetes", "libpod": "Podman", "lxc": "LXC"}


def _read(path: str, root: str) -> str:
    """Return a small file's text; "" if there is none, or none for us."""
    try:
        return kerneltext.read(path, root).decode(errors="replace")
    except OSError:
        return ""


def foreign_namespaces() -> list[str]:
    """Return which of ipc, user and pid are not the namespaces that the machine booted with."""
    found = []
    for kind, inode in _INITIAL.items():
        try:
            if os.stat(f"/proc/self/ns/{kind}").st_ino != inode:
                found.append(kind)
        except OSError:
            pass
    return found


def container(root: str = "") -> str | None:
    """Return what kind of container this is, as far as it leaves signs; None: no sign of one."""
    said = _read("/run/systemd/container", root).strip()  # systemd's interface for containers
    if said:
        return said
    if os.path.exists(f"{root}/run/.containerenv"):
        return "Podman"
    if os.path.exists(f"{root}/.dockerenv"):
        return "Docker"
    groups = _read("/proc/self/cgroup", root)
    return next((name for word, name in _WORDS.items() if f"/{word}" in groups), None)


def proc_is_ours() -> bool:
    """Whether /proc is that of this pid namespace."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def proc_options(root: str = "") -> dict[str, str]:
    """Return the options that /proc is mounted with: hidepid and subset, proc(5)."""
    found: dict[str, str] = {}
    for line in _read("/proc/self/mountinfo", root).splitlines():
        before, _, after = line.partition(" - ")
        words, tail = before.split(), after.split()
        if len(words) > 4 and words[4] == "/proc" and len(tail) > 2 and tail[0] == "proc":
            options = (one.partition("=") for one in tail[2].split(","))
            found = {key: value for key, _, value in options if key in ("hidepid", "subset")}
    return found


def seccomp() -> bool:
    """Whether a seccomp filter decides about this process's system calls."""
    return "\nSeccomp:\t2" in _read("/proc/self/status", "")


def remove_ipc(root: str = "") -> bool | None:
    """Whether logind removes a user's IPC at the last logout, logind.conf(5); None: no logind."""
    if not os.path.isdir(f"{root}/run/systemd/system"):  # sd_booted(3)
        return None
    value = True  # as systemd is shipped
    for path in _logind_files(root):
        section = ""
        for line in _read(path, root).splitlines():
            line = line.strip()
            if line.startswith("["):
                section = line
            key, _, said = line.partition("=")
            if section == "[Login]" and key.strip() == "RemoveIPC":
                value = _BOOLEANS.get(said.strip().lower(), value)
    return value


def _logind_files(root: str) -> list[str]:
    """Return the files in the order in which the later one wins."""
    main = next((path for path in _LOGIND_FILES if os.path.exists(root + path)), None)
    dropped: dict[str, str] = {}
    for folder in _LOGIND_FOLDERS:
        try:
            names = os.listdir(root + folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            continue
        for name in names:
            if name.endswith(".conf"):
                dropped.setdefault(name, f"{folder}/{name}")
    return ([main] if main else []) + [dropped[name] for name in sorted(dropped)]


def lingers(user: str, root: str = "") -> bool:
    """Whether logind keeps a user's processes and IPC after the last logout (loginctl(1))."""
    return os.path.exists(f"{root}/var/lib/systemd/linger/{user}")
