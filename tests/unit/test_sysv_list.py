"""sysv.segments(), semaphores(), message_queues(), usage(), limits(): what the kernel says."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import support

from memfast import Segment, sysv

CREATE, RMID, SETVAL = 0o1000, 0, 16
PAGE = mmap.PAGESIZE

libc = ctypes.CDLL(None, use_errno=True)


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of /proc/sysvipc/NAME."""
    titles, *lines = Path("/proc/sysvipc", name).read_text().splitlines()
    return [dict(zip(titles.split(), line.split(), strict=True)) for line in lines]


@pytest.fixture
def some_segments():
    """Return what each row of /proc/sysvipc/shm is in fields of ours, and remove them after."""
    ids = []
    for size, mode, key in (1, 0o600, 0), (5000, 0o777, 0xFFFFFFF0), (1 << 20, 0, 77):
        number = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(size), CREATE | mode)
        assert number >= 0
        ids.append(number)
    yield ids
    for number in ids:
        libc.shmctl(number, RMID, None)


def as_proc(segment: sysv.SegmentInfo) -> dict[str, int]:
    """Return a record under the titles of /proc/sysvipc/shm."""
    key = segment.key - (1 << 32) if segment.key >= 1 << 31 else segment.key
    mode = segment.mode | 0o1000 * segment.dest | 0o2000 * segment.locked
    return {
        **{
            name: getattr(segment, name)
            for name in ("size", "nattch", "uid", "gid", "cuid", "cgid")
        },
        "key": key,
        "shmid": segment.id,
        "perms": int(f"{mode:o}"),
        "cpid": segment.creator_pid,
        "lpid": segment.last_pid,
        "atime": segment.attach_time,
        "dtime": segment.detach_time,
        "ctime": segment.change_time,
    }


def test_segments_are_those_of_proc(some_segments):
    """Each field, from both sources, in the kernel's order."""
    with Segment.create(PAGE * 3, key=secrets.randbelow(1 << 31) + 1) as own:
        own.mlock()
        rows = table("shm")
        for found in sysv.segments(), sysv.segments(rss=True):
            assert [as_proc(segment) for segment in found] == [
                {name: int(row[name]) for name in as_proc(found[0])} for row in rows
            ]
        measured = {segment.id: segment for segment in sysv.segments(rss=True)}
        for row in rows:
            segment = measured[int(row["shmid"])]
            assert (segment.rss, segment.swap) == (int(row["rss"]), int(row["swap"]))
        assert measured[own.id].rss == own.stat().size // PAGE * PAGE
        assert measured[own.id].locked
        own.remove()
        assert {segment.id: segment.dest for segment in sysv.segments()}[own.id]
    assert sysv.segments()[0].rss is None
    assert sysv.segments()[0].attached is None


def test_all_fields_of_stat_are_there(some_segments):
    """SegmentInfo begins with the fields of SegmentStat, and they are equal."""
    assert sysv.SegmentInfo._fields[: len(sysv.SegmentStat._fields)] == sysv.SegmentStat._fields
    with Segment.create(100) as own:
        listed = {segment.id: segment for segment in sysv.segments()}[own.id]
        assert listed[: len(sysv.SegmentStat._fields)] == own.stat()


def test_attached_names_the_processes(some_segments):
    """Who has mapped it, once each, after the removal of its key too; nobody else."""
    with (
        Segment.create(PAGE, key=secrets.randbelow(1 << 31) + 1) as own,
        Segment.open(id=own.id),
        support.forked(lambda: time.sleep(60)) as pid,
    ):
        for _ in range(2):
            found = {one.id: one for one in sysv.segments(attached=True)}
            assert sorted(found[own.id].attached) == sorted([os.getpid(), pid])
            assert found[some_segments[0]].attached == ()
            assert found[own.id].unseen >= 0
            own.remove()


@support.need_root
def test_another_ipc_namespace_s_processes_are_not_users():
    """The same id there is another segment."""
    code = """
import ctypes, os, time
from memfast import sysv, vmas
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p

def attached():
    id = libc.shmget(0, ctypes.c_size_t(100), 0o1600)
    assert libc.shmat(id, None, 0) != ctypes.c_void_p(-1).value
    return id

ours = attached()
read, write = os.pipe()
child = os.fork()
if child == 0:
    (start,) = [vma.start for vma in vmas() if "/SYSV" in vma.path]
    libc.shmdt(ctypes.c_void_p(start))
    assert libc.unshare(0x08000000) == 0
    os.write(write, b"%d" % attached())
    time.sleep(60)
print(ours, int(os.read(read, 20)), sysv.segments(attached=True)[0].attached == (os.getpid(),))
os.kill(child, 9)
os.waitpid(child, 0)
"""
    assert support.in_namespace("i", code).split() == ["0", "0", "True"]


@support.need_root
def test_processes_that_cannot_be_seen_are_counted():
    """A user without rights sees his own processes; the others are a number, not silence."""
    code = """
import os, json
from memfast import Segment, sysv
sysv.segments(attached=True)
held = Segment.create(100, mode=0o666)
os.setresuid(65534, 65534, 65534)
(one,) = sysv.segments(attached=True)
print(json.dumps([one.attached == (os.getpid(),), one.unseen]))
"""
    itself, unseen = json.loads(support.in_namespace("i", code))
    assert itself
    assert unseen > 1


def test_arrays_and_queues_are_those_of_proc():
    """Each field that /proc/sysvipc has."""
    array = libc.semget(0x5E, 3, CREATE | 0o640)
    queue = libc.msgget(0x5F, CREATE | 0o604)
    try:
        assert libc.semctl(array, 2, SETVAL, 9) == 0
        message = (ctypes.c_char * 108)(1)
        assert libc.msgsnd(queue, message, ctypes.c_size_t(100), 0) == 0
        (row,) = [row for row in table("sem") if int(row["semid"]) == array]
        (one,) = [one for one in sysv.semaphores() if one.id == array]
        people = {name: int(row[name]) for name in ("uid", "gid", "cuid", "cgid")}
        assert one == sysv.SemaphoreArray(
            id=array,
            key=0x5E,
            mode=0o640,
            nsems=3,
            operation_time=int(row["otime"]),
            change_time=int(row["ctime"]),
            **people,
        )
        values = sysv.semaphore_values(array, one.nsems)
        assert [value.value for value in values] == [0, 0, 9]
        assert values[2].last_pid in (0, os.getpid())
        (row,) = [row for row in table("msg") if int(row["msqid"]) == queue]
        (one,) = [one for one in sysv.message_queues() if one.id == queue]
        assert one == sysv.MessageQueue(
            id=queue,
            key=0x5F,
            mode=0o604,
            used_bytes=100,
            messages=1,
            limit_bytes=sysv.limits().msgmnb,
            send_pid=os.getpid(),
            receive_pid=0,
            send_time=int(row["stime"]),
            receive_time=0,
            change_time=int(row["ctime"]),
            **people,
        )
        usage = sysv.usage()
        assert (usage.queues, usage.messages, usage.message_bytes) == (1, 1, 100)
        assert (usage.semaphore_arrays, usage.semaphores) == (1, 3)
    finally:
        libc.semctl(array, 0, RMID)
        libc.msgctl(queue, RMID, None)
    with pytest.raises(FileNotFoundError, match="semaphore 0 of array"):
        sysv.semaphore_values(array, 1)


def test_limits_are_those_of_proc_sys():
    """Each, against the files that sysctl(8) reads."""

    def setting(name: str) -> list[int]:
        return [int(word) for word in Path("/proc/sys/kernel", name).read_text().split()]

    limits = sysv.limits()
    assert [limits.semmsl, limits.semmns, limits.semopm, limits.semmni] == setting("sem")
    for name in "shmmax", "shmall", "shmmni", "msgmni", "msgmax", "msgmnb":
        assert [getattr(limits, name)] == setting(name)


def test_usage_counts_pages(some_segments):
    """Of sizes, rounded up, whether touched or not; beside /proc/sysvipc/shm."""
    rows = table("shm")
    usage = sysv.usage()
    assert usage.segments == len(rows)
    assert usage.shm_pages == sum(-(-int(row["size"]) // PAGE) for row in rows)
    assert usage.shm_resident_pages * PAGE == sum(int(row["rss"]) for row in rows)


@support.need_root
def test_four_thousand_segments():
    """All are listed, by both ways, and with holes; the array is grown as needed."""
    code = """
import ctypes
from memfast import sysv
libc = ctypes.CDLL(None)
assert sysv.segments() == sysv.segments(rss=True) == []
ids = [libc.shmget(0, ctypes.c_size_t(100 + i), 0o1600) for i in range(4000)]
assert min(ids) >= 0
for id in ids[::7]:
    libc.shmctl(id, 0, None)
    ids.remove(id)
for found in sysv.segments(), sysv.segments(rss=True):
    assert [one.id for one in found] == sorted(ids), len(found)
assert len({one.size for one in found}) == len(ids)
outcomes = sysv.remove(everything=True)
assert {one.outcome for one in outcomes} == {"removed"} and len(outcomes) == len(ids)
print(len(sysv.segments()))
"""
    assert support.in_namespace("i", code).split() == ["0"]


@support.need_root
def test_a_kernel_without_stat_any(tmp_path):
    """Before Linux 4.17: /proc/sysvipc/shm instead, the same answer; no segment is lost."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    code = (
        "import ctypes, os; from memfast import sysv; libc = ctypes.CDLL(None)\n"
        "ids = [libc.shmget(0, ctypes.c_size_t(100 + i), 0o1600) for i in range(5)]\n"
        "print([one.size for one in sysv.segments()])\n"
    )
    # The room, then five in vain, then SHM_INFO: by then the table is asked.
    inject = "inject=shmctl:error=EINVAL:when=3+"
    command = ["unshare", "-i", "strace", "-qq", "-o", "/dev/null", "-e", inject]
    done = subprocess.run(
        [*command, *support.python(code)[3:]], capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr or "PTRACE" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split("\n")[0] == str([100 + i for i in range(5)]), done.stderr


@support.need_root
def test_without_proc_the_error_says_so():
    """rss=True needs /proc/sysvipc; the rest does not."""
    code = """
import memfast
from memfast import sysv
sysv.segments(), sysv.usage(), sysv.limits(), sysv.semaphores(), sysv.message_queues()
try:
    sysv.segments(rss=True)
except memfast.NotSupportedError as error:
    print(error)
"""
    said = support.in_namespace("im", code, before="mount -t tmpfs none /proc")
    assert "/proc is not mounted whole" in said


def test_a_full_descriptor_table_is_an_error_not_an_empty_list():
    """EMFILE is raised."""

    def short() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                sysv.segments(rss=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with support.forked(short) as pid:
        assert support.exit_status(pid) == 0
