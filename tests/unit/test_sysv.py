"""System V segments in one process: what is made, what the kernel says of it, what is refused."""

from __future__ import annotations

import ctypes
import os
import pickle
import secrets
import subprocess
import time
from pathlib import Path

import pytest
import support

import memfast
from memfast import Segment, shm

IPC_CREAT, SHM_RDONLY, IPC_RMID = 0o1000, 0o10000, 0
PAGE, MARK, TAIL = 4096, 3955, 3968  # csrc/layout.h: struct mf_segment_tail

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


@pytest.fixture
def key():
    """Return a key that nobody uses; what a failed test leaves at it is removed."""
    number = secrets.randbelow(0xFFFFFFFF) + 1
    yield number
    try:
        with Segment.open(key=number, readonly=True) as left:
            left.remove()
    except memfast.NotFoundError:
        pass


def row_of(id):
    """Return the kernel's line about a segment, from /proc/sysvipc/shm, or None."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    names = lines[0].split()
    for line in lines[1:]:
        row = dict(zip(names, line.split(), strict=True))
        if int(row["shmid"]) == id:
            return row
    return None


def raw_segment(size, key=0, mode=0o600):
    """Create a segment as another program would: bare, not attached."""
    id = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(size), IPC_CREAT | mode)
    assert id >= 0
    return id


def raw_remove(id):
    libc.shmctl(id, IPC_RMID, None)


# ---- create ----


@pytest.mark.parametrize("size", [1, 7, MARK, MARK + 1, PAGE, PAGE + MARK, PAGE * 3 + 1, 1 << 20])
def test_an_anonymous_segment_is_marked_for_removal_at_birth(size):
    """The kernel lists it as `dest`, with our mark, every page there; with close() it is gone."""
    with Segment.create(size) as segment:
        assert (segment.size, segment.key, segment.buf.nbytes) == (size, None, size)
        stat = segment.stat()
        assert stat.dest
        assert stat.nattch == 1
        assert stat.size >= size
        assert stat.size % PAGE == MARK
        assert stat.size - size < PAGE
        row = row_of(segment.id)  # before the read: that would bring the pages too
        assert int(row["rss"]) == (stat.size + PAGE - 1) // PAGE * PAGE
        assert segment.read() == bytes(size)
    assert row_of(segment.id) is None


def test_every_byte_of_a_segment_can_be_written():
    """The user's bytes reach right up to the tail, and the tail survives them."""
    for size in (MARK, MARK - 1, PAGE + MARK, 2 * PAGE):
        with Segment.create(size) as segment:
            segment.write(b"\xff" * size)
            with Segment.open(id=segment.id) as other:
                assert other.size == size
                assert other.nonce == segment.nonce
                assert other.read() == b"\xff" * size


def test_nonces_differ():
    """Each segment has a nonce of its own, never 0."""
    nonces = set()
    for _ in range(50):
        with Segment.create(1) as segment:
            nonces.add(segment.nonce)
    assert len(nonces) == 50
    assert 0 not in nonces


def test_a_keyed_segment_stays_until_it_is_removed(key):
    """With a key the size is exactly the user's, nothing is marked, and close() leaves it there."""
    with Segment.create(5000, key=key, mode=0o640) as segment:
        stat = segment.stat()
        assert (stat.size, stat.key, stat.mode, stat.dest) == (5000, key, 0o640, False)
        assert (segment.key, segment.nonce) == (key, 0)
        segment.write(b"stays")
        with pytest.raises(memfast.ExistsError, match="taken"):
            Segment.create(5000, key=key)
    with Segment.open(key=key) as again:
        assert again.id == segment.id
        assert again.read(5) == b"stays"
        assert again.remove() == "marked"
    with pytest.raises(memfast.NotFoundError, match="ipcs"):
        Segment.open(key=key)


def test_remove_says_whether_it_is_gone(key):
    """`marked` while anyone is attached, `removed` when nobody was, NotFoundError afterwards."""
    segment = Segment.create(10, key=key)
    segment.close()
    assert segment.remove() == "removed"
    assert row_of(segment.id) is None
    with pytest.raises(memfast.NotFoundError):
        segment.remove()
    with Segment.create(10, key=key) as segment:
        assert segment.remove() == "marked"
        assert segment.stat().dest
        with Segment.create(10, key=key) as successor:
            assert successor.id != segment.id
            successor.remove()


def test_a_read_only_creator_cannot_write():
    """create(readonly=True) leaves this process a read-only attachment of zeros."""
    with Segment.create(100, readonly=True) as segment, Segment.open(id=segment.id) as writer:
        assert segment.stat().nattch == 2
        writer.write(b"theirs")
        assert segment.read(6) == b"theirs"
        with pytest.raises(TypeError):
            segment.buf[0] = 1


def test_noreserve_takes_no_pages():
    """noreserve=True leaves a segment almost without pages: but for the tail's, all are absent."""
    with Segment.create(64 * PAGE, noreserve=True) as segment:
        assert int(row_of(segment.id)["rss"]) <= PAGE
    with Segment.create(64 * PAGE) as segment:
        assert int(row_of(segment.id)["rss"]) >= 64 * PAGE


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": -1}, ValueError),
        ({"size": 1 << 64}, ValueError),
        ({"size": 1.5}, TypeError),
        ({"size": "4096"}, TypeError),
        ({"size": 1, "key": 0}, ValueError),
        ({"size": 1, "key": -1}, ValueError),
        ({"size": 1, "key": 1 << 32}, ValueError),
        ({"size": 1, "key": (1 << 32) + 7777123}, ValueError),
        ({"size": 1, "key": "a"}, TypeError),
        ({"size": 1, "mode": -1}, ValueError),
        ({"size": 1, "mode": 0o1777}, ValueError),
        ({"size": 1, "hugepages": "3M"}, ValueError),
        ({"size": 1, "hugepages": 4096}, ValueError),
        ({"size": 1, "hugepages": 3 << 20}, ValueError),
        ({"size": 1, "hugepages": -1}, ValueError),
        ({"size": 1, "hugepages": 1.5}, TypeError),
    ],
)
def test_bad_arguments_make_nothing(arguments, error):
    """A wrong size, key, mode or page size is refused before anything is created."""
    before = support.segments()
    with pytest.raises(error):
        Segment.create(**arguments)
    assert support.segments() == before


def test_a_segment_is_not_made_by_its_class():
    """Segment() says which functions make one."""
    with pytest.raises(TypeError, match="create"):
        Segment()


def test_more_than_the_machine_has_is_an_error_and_not_an_oom_kill():
    """Asking for more than there is room for is NoSpaceError with both figures; nothing is left."""
    before = support.segments()
    for size in (1 << 45, 1 << 50, (1 << 62) - 1):
        with pytest.raises(memfast.NoSpaceError, match=str(size)):
            Segment.create(size)
        with pytest.raises(memfast.NoSpaceError, match=str(size)):
            Segment.open_or_create(0x7FFFFFF1, size)
    assert support.segments() == before


def test_what_does_not_fit_beside_the_rest_is_refused():
    """All of the machine's memory, less 1 MiB: refused with what there is, and nothing is taken."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def child():
        # Should the question after the room be lost, the OOM killer is to take us.
        Path("/proc/self/oom_score_adj").write_text("1000")
        with pytest.raises(memfast.NoSpaceError, match=r"may take [0-9]+ bytes more"):
            Segment.create(total - (1 << 20))

    with support.forked(child) as pid:
        assert support.exit_status(pid) == 0


@pytest.mark.parametrize("hugepages", ["2M", "1G"])
def test_huge_pages_that_are_not_reserved_are_named(hugepages):
    """Without reserved huge pages the error names the setting, its value and the command."""
    kib = {"2M": 2048, "1G": 1 << 20}[hugepages]
    pool = Path(f"/sys/kernel/mm/hugepages/hugepages-{kib}kB")
    if pool.is_dir() and int((pool / "free_hugepages").read_text()) > 0:
        pytest.skip(f"huge pages of {kib} KiB are reserved here")
    with pytest.raises((memfast.LimitError, memfast.NotSupportedError)) as caught:
        Segment.create(1, hugepages=hugepages)
    if pool.is_dir():
        assert "nr_hugepages=0" in str(caught.value)
        assert "raise it with" in str(caught.value)


def test_huge_pages_of_a_size_that_the_machine_lacks():
    """A page size that this machine does not have is NotSupportedError, and lists what it has."""
    with pytest.raises(memfast.NotSupportedError, match="it has"):
        Segment.create(1, hugepages=1 << 40)


# ---- limits, in an IPC namespace of their own ----

LIMITS = """
import sys
from pathlib import Path
import memfast
from memfast import Segment, shm

def set(name, value):
    Path(f"/proc/sys/kernel/{name}").write_text(str(value))

def fails(size, *words):
    before = Path("/proc/sysvipc/shm").read_text()
    for make in (lambda: Segment.create(size), lambda: Segment.open_or_create(77, size)):
        try:
            make()
        except memfast.LimitError as error:
            assert all(word in str(error) for word in words), error
        else:
            sys.exit("no error")
    assert Path("/proc/sysvipc/shm").read_text() == before

"""


@support.need_root
@pytest.mark.parametrize(
    "body",
    [
        'set("shmmax", 8192);'
        'fails(8193, "kernel.shmmax=8192", "8193 bytes", "sysctl -w kernel.shmmax=")',
        'a, b = Segment.create(1), Segment.create(1); set("shmmni", 2);'
        'fails(1, "kernel.shmmni=2", "2 in use", "sysctl -w kernel.shmmni=4")',
        'a = Segment.create(1); set("shmall", 3);'
        'fails(4096 + 4000, "kernel.shmall=3", "1 in use", "3 asked", "sysctl -w kernel.shmall=4")',
    ],
    ids=["shmmax", "shmmni", "shmall"],
)
def test_the_limit_at_fault_is_named(body):
    """shmmax, shmmni and shmall: LimitError with the name, the value, the use and the remedy."""
    support.in_namespace("i", LIMITS + body)


@support.need_root
@pytest.mark.parametrize("call", ["Segment.create(1)", "Segment.open_or_create(77, 1)"])
def test_leftovers_make_room_when_the_table_is_full(call):
    """With shmmni reached by what killed creators left, a creation sweeps and succeeds."""
    support.in_namespace(
        "i",
        LIMITS
        + f"""
import os, ctypes, memfast.shm
libc = ctypes.CDLL(None)
Segment.create(1)
memfast.shm._sweep_due = float("inf")  # not by the clock: because it is full
set("shmmni", 3)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        libc.shmget(0, {MARK}, 0o1600)
        os._exit(0)
    os.waitpid(pid, 0)
segment = {call}
assert len(Path("/proc/sysvipc/shm").read_text().splitlines()) == 2
""",
    )


# ---- open ----


def test_a_foreign_segment_opens_with_the_kernel_s_size():
    """A segment of another program, its size like ours or not, has no nonce and its full size."""
    for size in (1000, 4096, MARK, PAGE + MARK):
        id = raw_segment(size)
        try:
            with Segment.open(id=id) as segment:
                assert (segment.size, segment.nonce, segment.key) == (size, 0, None)
                segment.write(b"\xff" * size)
                with Segment.open(id=id, readonly=True) as reader:
                    assert (reader.size, reader.nonce) == (size, 0)
        finally:
            raw_remove(id)


@pytest.mark.parametrize("word", range(3))
@pytest.mark.parametrize("value", [0, 1, 2, MARK, 2 * PAGE, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_a_forged_tail_never_moves_the_bounds(word, value):
    """Whatever magic, nonce and size say, the buffer stays inside of what the kernel mapped."""
    with Segment.create(5000) as segment:
        kernel_size = segment.stat().size
        place = segment.pages.address + kernel_size // PAGE * PAGE + TAIL + 8 * word
        ctypes.c_uint64.from_address(place).value = value
        with Segment.open(id=segment.id) as other:
            assert 4096 - (PAGE - MARK) < other.size <= kernel_size
            assert other.buf.nbytes == other.size
            assert other.nonce != 0 or other.size == kernel_size


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"id": 1, "key": 1}, ValueError),
        ({"id": -1}, ValueError),
        ({"id": 1 << 31}, ValueError),
        ({"id": "1"}, TypeError),
        ({"key": 0}, ValueError),
        ({"key": 1 << 32}, ValueError),
        ({"id": (1 << 31) - 1}, memfast.NotFoundError),
        ({"key": 0xFFFFFFFE}, memfast.NotFoundError),
    ],
)
def test_what_cannot_be_opened(arguments, error):
    """Neither or both of id and key, numbers out of range, and what is not there."""
    with pytest.raises(error):
        Segment.open(**arguments)


# ---- stat and its changes ----


def test_stat_is_what_the_kernel_says(key):
    """Each field equals /proc/sysvipc/shm; times are now, or 0 where it never happened."""
    with Segment.create(12345, key=key, mode=0o604) as segment:
        stat, row = segment.stat(), row_of(segment.id)
        for field, column in [
            ("id", "shmid"), ("size", "size"), ("uid", "uid"), ("gid", "gid"), ("cuid", "cuid"),
            ("cgid", "cgid"), ("nattch", "nattch"), ("creator_pid", "cpid"), ("last_pid", "lpid"),
            ("attach_time", "atime"), ("detach_time", "dtime"), ("change_time", "ctime"),
        ]:  # fmt: skip
            assert getattr(stat, field) == int(row[column]), field
        assert stat.key == int(row["key"]) & 0xFFFFFFFF == key
        assert oct(stat.mode) == oct(int(row["perms"], 8)) == "0o604"
        assert (stat.creator_pid, stat.uid) == (os.getpid(), os.geteuid())
        assert stat.detach_time == 0
        assert abs(time.time() - stat.attach_time) < 60
        assert (stat.dest, stat.locked) == (False, False)
        assert stat._asdict()["size"] == 12345
        Segment.open(key=key).close()
        assert segment.stat().detach_time >= stat.attach_time
        segment.remove()
        assert (segment.stat().dest, segment.stat().key) == (True, 0)


def test_chmod_and_chown_change_what_they_name():
    """chmod() sets the mode alone, chown() owner and group, each of them or both."""
    with Segment.create(1) as segment:
        segment.chmod(0o644)
        assert segment.stat().mode == 0o644
        for mode in (-1, 0o1000):
            with pytest.raises(ValueError):
                segment.chmod(mode)
        for uid, gid in [(-2, -1), (1 << 32, -1), (0, (1 << 32) - 1)]:
            with pytest.raises(ValueError):
                segment.chown(uid, gid)
        if os.geteuid() == 0:
            segment.chown(1234)
            assert (segment.stat().uid, segment.stat().gid) == (1234, os.getegid())
            segment.chown(-1, 5678)
            assert (segment.stat().uid, segment.stat().gid) == (1234, 5678)
        assert segment.stat().mode == 0o644


def test_mlock_shows_in_stat():
    """mlock() sets the kernel's LOCKED bit and munlock() takes it back."""
    with Segment.create(PAGE) as segment:
        segment.mlock()
        assert segment.stat().locked
        assert segment.stat().mode == 0o600
        segment.munlock()
        assert not segment.stat().locked


@support.need_root
def test_mlock_over_the_limit_names_it():
    """Without CAP_IPC_LOCK the error names RLIMIT_MEMLOCK, its value and what was asked."""
    code = """
import os, resource, memfast
memfast.Segment.create(1).close()  # import while we may read
os.setuid(65534)
segment = memfast.Segment.create(1 << 20)
for limit in (4096, 0):
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    try:
        segment.mlock()
    except memfast.LimitError as error:
        assert f"RLIMIT_MEMLOCK={limit}" in str(error) and str(1 << 20) in str(error), error
    else:
        raise SystemExit("no error")
"""
    support.run_python(code)


# ---- pickling, in one process ----


def test_a_pickle_opens_the_same_segment(key):
    """A round trip gives another handle on the same memory; size, key and readonly go along."""
    with Segment.create(777) as anonymous, Segment.create(9, key=key, readonly=True) as keyed:
        anonymous.write(b"same")
        with pickle.loads(pickle.dumps(anonymous)) as copy:
            assert (copy.id, copy.size, copy.nonce) == (anonymous.id, 777, anonymous.nonce)
            assert copy.read(4) == b"same"
            with pickle.loads(pickle.dumps(copy)) as again:
                assert again.id == anonymous.id
        with pickle.loads(pickle.dumps(keyed)) as copy:
            assert (copy.key, copy.readonly) == (key, True)
        keyed.remove()
        with pickle.loads(pickle.dumps(keyed)) as copy:
            assert copy.key == key


def test_a_handle_to_a_past_life_is_stale():
    """What is gone, and an id that names another segment now, are StaleHandleError saying why."""
    segment = Segment.create(100)
    handle = pickle.dumps(segment)
    segment.close()
    with pytest.raises(memfast.StaleHandleError, match="gone"):
        pickle.loads(handle)


@pytest.mark.parametrize(
    ("index", "words"),
    [((0, 1), "size"), ((0, 2), "nonce"), ((0, 3), "key"), ((1, 0), "creator"), ((1, 1), "IPC")],
)
def test_a_handle_that_does_not_fit_is_stale(key, index, words):
    """Each part of the handle is checked: size, nonce, key, creator, IPC namespace."""
    with Segment.create(100, key=key) as segment:
        function, state = segment.__reduce__()
        parts = [list(part) if isinstance(part, tuple) else part for part in state]
        parts[index[0]][index[1]] += 1
        with pytest.raises(memfast.StaleHandleError, match=words):
            function(*parts)
        segment.remove()


# ---- ftok ----


@pytest.mark.parametrize("project", [1, 65, 127, 128, 255])
def test_ftok_is_ftok(tmp_path, project):
    """The key is the C library's, as the unsigned number that ipcs shows, and makes a segment."""
    path = tmp_path / "file"
    path.touch()
    key = shm.ftok(path, project)
    assert key == libc.ftok(os.fsencode(path), project) & 0xFFFFFFFF
    assert key == shm.ftok(str(path), project)
    with Segment.create(1, key=key) as segment:
        listed = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
        assert f"0x{key:08x}" in listed
        segment.remove()


def test_ftok_refuses(tmp_path):
    """A missing file is FileNotFoundError; a project that is not 1 to 255, ValueError."""
    with pytest.raises(FileNotFoundError):
        shm.ftok(tmp_path / "missing", 1)
    for project in (0, 256, -1):
        with pytest.raises(ValueError):
            shm.ftok(tmp_path, project)
