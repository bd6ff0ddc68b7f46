"""doctor(): each thing that can be wrong, made wrong in a namespace, is found; nothing is left."""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
from pathlib import Path

import pytest
import support

import memfast
from memfast import findings, probe, surroundings

SAY = """
import json, memfast
print(json.dumps([one._asdict() for one in memfast.doctor()]))
"""


def found(printed: str) -> dict[str, memfast.Finding]:
    """Return the findings that a program printed, by what was looked at."""
    rows = [memfast.Finding(**row) for row in json.loads(printed.splitlines()[-1])]
    assert len({one.what for one in rows}) == len(rows)
    return {one.what: one for one in rows}


def in_namespace(flags: str, before: str, code: str = SAY) -> dict[str, memfast.Finding]:
    return found(support.in_namespace(flags, code, before=before))


# ---- all of it ----


def test_each_finding_says_what_and_what_to_do() -> None:
    """A severity of three, a figure, and wherever something is wrong an advice."""
    rows = memfast.doctor()
    assert len(rows) > 15
    for one in rows:
        assert one.severity in ("ok", "note", "warning")
        assert one.what
        assert one.figure
        assert bool(one.advice) == (one.severity != "ok")


def test_it_leaves_neither_child_nor_signal() -> None:
    """The probe's child ends without SIGCHLD, and no wait(2) of the caller's sees it."""
    code = """
import memfast, os, signal
signal.signal(signal.SIGCHLD, lambda number, frame: print("SIGCHLD"))
assert "works" in [one.figure for one in memfast.doctor() if one.what == "user namespaces"]
try:
    os.waitpid(-1, os.WNOHANG | 0x40000000)  # __WALL
except ChildProcessError:
    print("no child")
"""
    assert support.run_python(code) == "no child\n"


def test_it_needs_no_privilege() -> None:
    """Any user gets all findings, and no segment, name or directory is made."""
    memfast.doctor()

    def look() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        names = {one.what for one in memfast.doctor()}
        assert {"/dev/shm", "RemoveIPC", "kernel.shmmni", "swap", "cachestat(2)"} <= names

    with support.forked(look) as pid:
        assert support.exit_status(pid) == 0
    assert not os.path.exists("/dev/shm/memfast-65534")


# ---- /dev/shm ----


@support.need_root
@pytest.mark.parametrize(
    ("before", "what", "severity", "figure"),
    [
        ("mount -t tmpfs -o size=1g,mode=1777 s /dev/shm", "/dev/shm", "ok", "1G, 0% used"),
        ("mount -t tmpfs -o size=64m,mode=1777 s /dev/shm", "/dev/shm", "warning", "64M"),
        (
            "mount -t tmpfs -o size=100m,mode=1777 s /dev/shm; head -c 95m /dev/zero >/dev/shm/x",
            "/dev/shm",
            "warning",
            "100M, 95% used",
        ),
        ("mount --bind /proc /dev/shm", "/dev/shm", "warning", "no tmpfs"),
        (
            "mount -t tmpfs -o size=1g,mode=755 s /dev/shm",
            "/dev/shm permissions",
            "warning",
            "mode 0755",
        ),
        (
            "mount -t tmpfs -o size=1g,mode=1777 s /dev/shm; mkdir -m 755 /dev/shm/memfast-0",
            "/dev/shm/memfast-0",
            "warning",
            "Permission",
        ),
        (
            "mount -t tmpfs -o size=1g,mode=1777 s /dev/shm; ln -s /tmp /dev/shm/memfast-0",
            "/dev/shm/memfast-0",
            "warning",
            "Not a directory",
        ),
    ],
)
def test_dev_shm(before: str, what: str, severity: str, figure: str) -> None:
    """Small, nearly full, no tmpfs, closed to others, a directory of names that is not ours."""
    one = in_namespace("m", before)[what]
    assert (one.severity, figure in one.figure) == (severity, True), one


# ---- System V ----


@support.need_root
@pytest.mark.parametrize(
    ("setting", "what", "figure"),
    [
        ("shmmni 4", "kernel.shmmni", "4 of 4 segments"),
        ("shmall 8", "kernel.shmall", "8 of 8 pages"),
        ("shmmax 1048576", "kernel.shmmax", "1M a segment"),
    ],
)
def test_limits_that_are_nearly_reached(setting: str, what: str, figure: str) -> None:
    """In an IPC namespace with small limits: a warning with both figures, else none."""
    name, value = setting.split()
    code = f"import memfast\nkept = [memfast.Segment.create(8192 - 200) for _ in range(4)]\n{SAY}"
    rows = in_namespace("Uri", f"echo {value} > /proc/sys/kernel/{name}", code)
    assert rows[what].severity == "warning"
    assert rows[what].figure == figure
    assert name in rows[what].advice
    works = rows["System V segments"]
    assert works.severity == ("ok" if name == "shmmax" else "warning")
    for other in {"kernel.shmmni", "kernel.shmall", "kernel.shmmax"} - {what}:
        assert rows[other].severity == "ok"


@support.need_root
def test_shm_rmid_forced() -> None:
    """kernel.shm_rmid_forced=1 is worth a note."""
    rows = in_namespace("i", "echo 1 > /proc/sys/kernel/shm_rmid_forced")
    assert rows["kernel.shm_rmid_forced"].severity == "note"


# ---- features ----

SECCOMP = """
import ctypes, errno, struct, sys
filter, libc = bytes.fromhex(sys.argv[1]), ctypes.CDLL(None)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(filter) // 8, filter))) == 0
"""


def refusing(numbers: list[int], error: int) -> str:
    """Return a seccomp filter that answers these system calls with an errno, seccomp(2)."""
    rows = [(0x20, 0, 0, 0)]  # load the number
    for place, number in enumerate(numbers):
        rows.append((0x15, len(numbers) - place, 0, number))  # equal: to the last row
    rows += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)]  # allow; errno
    return b"".join(struct.pack("<HBBI", *row) for row in rows).hex()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of x86_64")
@pytest.mark.parametrize(("error", "word"), [(1, "refused, by a seccomp"), (38, "missing")])
def test_what_a_seccomp_profile_takes_away(error: int, word: str) -> None:
    """membarrier, pidfd_open, cachestat, futex_waitv, memfd_create answered by EPERM or ENOSYS."""
    profile = refusing([324, 434, 451, 449, 319], error)
    rows = found(support.run_python(SECCOMP + SAY, profile))
    for name, severity in (
        ("membarrier(2)", "warning"),
        ("pidfd_open(2)", "warning"),
        ("sealed memfds", "warning"),
        ("cachestat(2)", "note"),
        ("futex_waitv(2)", "note"),
    ):
        assert rows[name].severity == severity
        assert rows[name].figure.startswith(word)
    assert rows["MADV_POPULATE_WRITE"].severity == "ok"


def test_user_namespaces_that_are_forbidden() -> None:
    """With user.max_user_namespaces 0, in a user namespace of our own, the probe says so."""
    before = "echo 0 > /proc/sys/user/max_user_namespaces"
    assert in_namespace("Ur", before)["user namespaces"].severity == "note"


def test_a_probe_that_is_unknown_is_refused() -> None:
    """A number that stands for no feature is EINVAL."""
    assert probe.attempt(probe.FEATURES[0]._replace(number=99)) == -22


# ---- /proc, memory, containers ----


@support.need_root
@pytest.mark.parametrize(
    ("options", "severity"), [("hidepid=invisible", "note"), ("subset=pid", "warning")]
)
def test_what_proc_hides(options: str, severity: str) -> None:
    """hidepid= and subset=pid are named, and nothing fails for lack of a file."""
    rows = in_namespace("mp", f"mount -t proc -o {options} proc /proc")
    assert rows["/proc"].severity == severity
    assert options.split("=")[0] in rows["/proc"].figure


@support.need_root
def test_a_proc_of_another_pid_namespace() -> None:
    """unshare --pid without --mount-proc: deaths would go unseen, a warning."""
    command = ["unshare", "-p", "--fork", "--kill-child", *support.python(SAY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert found(done.stdout)["/proc"].severity == "warning"


@support.need_root
def test_no_proc_at_all_is_no_traceback() -> None:
    """With an empty /proc whatever cannot be looked at says so."""
    code = f"import memfast; memfast.doctor()\nimport os; os.system('mount -t tmpfs n /proc'){SAY}"
    rows = in_namespace("m", "true", code)
    assert rows["/proc"].severity == "warning"
    assert rows["cachestat(2)"].severity == "ok"


@support.need_root
@pytest.mark.parametrize(
    ("file", "text", "what", "severity", "figure"),
    [
        ("/proc/meminfo", "MemTotal: 1024 kB\nMemFree: 9 kB\n", "/proc/meminfo", "note", "1M"),
        ("/proc/meminfo", "MemTotal: 9 kB\nSwapTotal: 0 kB\n", "swap", "note", "none"),
        ("/proc/meminfo", "SwapTotal: 1024 kB\nSwapFree: 512 kB\n", "swap", "ok", "1M, 50% used"),
        ("/proc/sys/vm/overcommit_memory", "2\n", "vm.overcommit_memory", "note", "2: "),
        ("/proc/sys/vm/overcommit_memory", "1\n", "vm.overcommit_memory", "ok", "not bounded"),
        ("/proc/pressure/memory", None, "pressure (PSI)", "note", ""),
    ],
)
def test_what_other_machines_say(
    file: str, text: str | None, what: str, severity: str, figure: str, tmp_path: Path
) -> None:
    """lxcfs, no swap, strict overcommit, no PSI: as their files say it."""
    if not os.path.exists(file):
        pytest.skip(f"no {file} here to mount over")
    fixture = tmp_path / "fixture"
    fixture.write_text(text or "")
    one = in_namespace("m", f"mount --bind {fixture} {file}")[what]
    assert (one.severity, figure in one.figure) == (severity, True), one


def test_a_cgroup_s_limit_is_named(nested_cgroups: tuple[Path, Path]) -> None:
    """In a group with a limit: what is left of it and which group sets it."""
    outer, inner = nested_cgroups
    code = f"import os\nopen({str(inner / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n{SAY}"
    one = found(support.run_python(code))["memory cgroup"]
    assert "of 64M" in one.figure
    assert str(outer) in one.figure


def test_a_low_limit_of_locked_memory() -> None:
    """RLIMIT_MEMLOCK below the kernel's usual 8 MiB is a note with the figure."""
    code = f"import resource as r\nr.setrlimit(r.RLIMIT_MEMLOCK, (65536, 65536))\n{SAY}"
    one = found(support.run_python(code))["RLIMIT_MEMLOCK"]
    assert (one.severity, one.figure) == ("note", "64K")


@pytest.mark.parametrize(
    ("signs", "kind"),
    [
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"run/.containerenv": ""}, "Podman"),
        ({".dockerenv": ""}, "Docker"),
        ({"proc/self/cgroup": "0::/kubepods/burstable/pod1\n"}, "Kubernetes"),
        ({"proc/self/cgroup": "4:memory:/docker/0123\n"}, "Docker"),
        ({"proc/self/cgroup": "0::/user.slice/mydocker\n"}, None),
        ({}, None),
    ],
)
def test_signs_of_a_container(signs: dict[str, str], kind: str | None, tmp_path: Path) -> None:
    """Each kind of container by what it leaves in its file system."""
    plant(tmp_path, signs)
    assert surroundings.container(str(tmp_path)) == kind


@support.need_root
def test_namespaces_of_one_s_own() -> None:
    """A process in an IPC and a pid namespace of its own is told so."""
    assert {"ipc", "pid"} <= set(
        support.in_namespace(
            "ip", "from memfast import surroundings as s; print(*s.foreign_namespaces())"
        ).split()
    )


def plant(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


MAIN, DROP = "etc/systemd/logind.conf", "etc/systemd/logind.conf.d"


@pytest.mark.parametrize(
    ("files", "removes"),
    [
        ({}, True),
        ({MAIN: "[Login]\n#RemoveIPC=no\n"}, True),
        ({MAIN: "[Login]\nRemoveIPC=no\n"}, False),
        ({MAIN: "[Login]\n RemoveIPC = off\n"}, False),
        ({MAIN: "[Other]\nRemoveIPC=no\n"}, True),
        ({MAIN: "[Login]\nRemoveIPC=no\nRemoveIPC=\n"}, False),
        ({MAIN: "[Login]\nRemoveIPC=no\n", f"{DROP}/a.conf": "[Login]\nRemoveIPC=yes\n"}, True),
        ({MAIN: "[Login]\nRemoveIPC=no\n", f"{DROP}/a.txt": "[Login]\nRemoveIPC=yes\n"}, False),
        (
            {
                f"{DROP}/b.conf": "[Login]\nRemoveIPC=no\n",
                "usr/lib/systemd/logind.conf.d/a.conf": "[Login]\nRemoveIPC=yes\n",
            },
            False,
        ),
        (
            {
                f"{DROP}/z.conf": "[Login]\nRemoveIPC=yes\n",
                "run/systemd/logind.conf.d/z.conf": "[Login]\nRemoveIPC=no\n",
            },
            True,
        ),
    ],
)
def test_remove_ipc(files: dict[str, str], removes: bool, tmp_path: Path) -> None:
    """logind.conf and its drop-ins, by systemd's precedence; without systemd there is no logind."""
    plant(tmp_path, files)
    if "run" not in [path.split("/")[0] for path in files]:
        assert surroundings.remove_ipc(str(tmp_path)) is None
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert surroundings.remove_ipc(str(tmp_path)) is removes


@support.need_root
@pytest.mark.parametrize(
    ("user", "setting", "severity", "figure"),
    [
        (1234, "yes", "warning", "yes"),
        (1234, "no", "ok", "no"),
        (0, "yes", "ok", "yes, but not for system users"),
    ],
)
def test_remove_ipc_concerns_those_who_log_out(
    user: int, setting: str, severity: str, figure: str, tmp_path: Path
) -> None:
    """A warning for a user who is no system user; what to do names the user."""
    plant(tmp_path, {"conf": f"[Login]\nRemoveIPC={setting}\n"})
    before = f"mkdir -p /run/systemd/system; mount --bind {tmp_path}/conf /etc/systemd/logind.conf"
    if not os.path.exists("/etc/systemd/logind.conf"):
        pytest.skip("no logind.conf here to mount over")
    before = f"mount -t tmpfs r /run; {before}"
    become = f"os.setresuid({user}, {user}, {user})"
    code = f"import json, os, memfast; memfast.doctor(); {become}\n{SAY}"
    one = in_namespace("m", before, code)["RemoveIPC"]
    assert (one.severity, one.figure) == (severity, figure)
    assert ("1234" in one.advice) == (severity == "warning")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1536, "1.5K"), (1 << 30, "1G"), (10**13, "9.1T")],
)
def test_sizes_are_short(size: int, text: str) -> None:
    """Figures have two digits or more, and a unit."""
    assert findings.size(size) == text


def test_it_is_quick() -> None:
    """It asks the kernel and no other program: the process has executed nothing."""
    code = f"""
import os, sys
def no(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        raise AssertionError(event)
sys.addaudithook(no)
{SAY}"""
    assert found(support.run_python(code))
