"""System V segments between processes: start methods, deaths, owners, namespaces."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import secrets
import signal
import sys
import time

import numpy as np
import pytest
import support

import memfast
from memfast import Segment, shm
from memfast.spawning import keep_while_spawning

METHODS = ["fork", "spawn", "forkserver"]
MARK = 3955  # MF_SEGMENT_MARK
IPC_CREAT, IPC_RMID, SHM_RDONLY = 0o1000, 0, 0o10000

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


@pytest.fixture
def key():
    number = secrets.randbelow(0xFFFFFFFF) + 1
    yield number
    try:
        with Segment.open(key=number, readonly=True) as left:
            left.remove()
    except memfast.NotFoundError:
        pass


def exists(id):
    try:
        shm.stat_segment(id)
    except memfast.NotFoundError:
        return False
    return True


def nattch(id):
    return shm.stat_segment(id).nattch


# ---- targets of multiprocessing, importable by a spawned child ----


def answer(segment, gate, expected):
    """Wait for the gate if there is one, check what is there, write back."""
    if gate is not None:
        gate.recv()
    assert segment.read(len(expected)) == expected
    if not segment.readonly:
        segment.write(b"child", segment.size - 5)


def hold(segment, gate):
    gate.send("attached")
    gate.recv()


# ---- the matrix of start methods ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["anonymous", "keyed", "readonly"])
def test_a_segment_crosses_to_a_child(method, kind, key):
    """Given to a Process, the child has the same memory: what each side writes the other reads."""
    context = multiprocessing.get_context(method)
    with Segment.create(5000, key=key if kind == "keyed" else None) as segment:
        segment.write(b"parent")
        given = Segment.open(id=segment.id, readonly=True) if kind == "readonly" else segment
        child = context.Process(target=answer, args=(given, None, b"parent"))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert segment.read(5, 4995) == (bytes(5) if kind == "readonly" else b"child")
        if kind == "keyed":
            segment.remove()
        given.close()
    support.until(lambda: not exists(segment.id))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_parent_may_drop_its_handle_before_the_child_has_started(method):
    """Closed right after start(), the segment reaches the child, and goes when the child ends."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    segment = Segment.create(5000)
    segment.write(b"early")
    child = context.Process(target=answer, args=(segment, theirs, b"early"))
    child.start()
    segment.close()
    theirs.close()
    time.sleep(0.05)
    assert exists(segment.id)
    ours.send("go")
    child.join()
    assert child.exitcode == 0
    support.until(lambda: not exists(segment.id), 5)
    ours.close()
    child.close()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_that_never_opens_it_does_not_keep_it(method):
    """A Process that is killed at once, and then joined, holds no memory of ours any more."""
    context = multiprocessing.get_context(method)
    segment = Segment.create(100)
    ours, theirs = context.Pipe()
    child = context.Process(target=hold, args=(segment, theirs))
    child.start()
    segment.close()
    child.kill()
    child.join()
    assert child.exitcode is not None
    support.until(lambda: not exists(segment.id))
    for thing in (ours, theirs, child):
        thing.close()


def test_nothing_is_kept_outside_of_a_start():
    """A pickle that no Process carries keeps nothing alive, as documented."""
    segment = Segment.create(100)
    assert not keep_while_spawning(segment.pages)
    handle = pickle.dumps(segment)
    segment.close()
    assert not exists(segment.id)
    with pytest.raises(memfast.StaleHandleError, match="gone"):
        pickle.loads(handle)


def test_a_pickle_travels_by_any_way():
    """Through a plain pipe to an unrelated interpreter the handle works, while we hold it open."""
    code = """
import pickle, sys
with pickle.load(sys.stdin.buffer) as segment:
    print(segment.read(5).decode(), segment.size)
"""
    with Segment.create(321) as segment:
        segment.write(b"hello")
        with support.python_child(code) as child:
            child.stdin.buffer.write(pickle.dumps(segment))
            child.stdin.close()
            assert child.stdout.read() == "hello 321\n"


# ---- fork ----


def test_a_forked_child_uses_and_closes_its_own_copy():
    """The inherited handle works in the child; closing it there leaves the parent's attached."""
    with Segment.create(100) as segment:
        view = segment.ndarray((100,), "u1")

        def child():
            segment.write(b"from the child")
            assert nattch(segment.id) == 2
            nonlocal view
            view = None
            segment.close()
            assert nattch(segment.id) == 1

        with support.forked(child) as pid:
            assert support.exit_status(pid) == 0
        assert nattch(segment.id) == 1
        assert bytes(view[:14]) == b"from the child"


def test_a_child_that_outlives_its_parent_keeps_the_memory():
    """The creator dies by SIGKILL: whoever is attached keeps the segment, and the last frees it."""
    code = """
import os, sys, time
from memfast import Segment
segment = Segment.create(5000)
segment.write(b"inherited")
print(segment.id, flush=True)
sys.stdin.readline()
"""
    with support.python_child(code) as creator:
        id = int(creator.stdout.readline())
        heir = Segment.open(id=id)
        creator.kill()
        creator.wait()
        assert heir.read(9) == b"inherited"
        assert nattch(id) == 1
        with Segment.open(id=id) as late:
            assert late.read(9) == b"inherited"
    heir.close()
    assert not exists(id)


# ---- death ----


@pytest.mark.timeout(120)
def test_a_thousand_creators_killed_leave_nothing():
    """1,000 creations, each ended by SIGKILL in use: no growth in the kernel's table."""
    before, descriptors = support.segments(), support.descriptors()
    for _ in range(1000):
        pid = os.fork()
        if pid == 0:
            try:
                segment = Segment.create(8192)
                view = segment.ndarray((8192,), "u1")
                view[:] = 1
                segment.close()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert support.segments() == before
    assert support.descriptors() == descriptors


def leave_behind(size=MARK, key=0, *, touch=False):
    """Do in a child what a killed creator did: shmget and no more; return (id, pid), unreaped."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        id = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(size), IPC_CREAT | 0o600)
        if touch:
            ctypes.c_char.from_address(libc.shmat(id, None, 0)).value = b"x"
        os.write(sending, str(id).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(sending)
    id = int(os.read(receiving, 20))
    os.close(receiving)
    return id, pid


def test_the_next_create_removes_what_a_killed_creator_left(monkeypatch):
    """Killed between shmget and IPC_RMID: an empty segment is there until the next create."""
    id, pid = leave_behind()
    os.waitpid(pid, 0)
    assert exists(id)
    monkeypatch.setattr(shm, "_sweep_due", 0.0)
    Segment.create(1).close()
    assert not exists(id)


def test_an_unreaped_creator_is_dead():
    """A zombie does nothing any more: what it left is swept although its pid is still there."""
    id, pid = leave_behind()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        shm.sweep()
        assert not exists(id)
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("why", ["unmarked", "keyed", "touched", "attached", "alive", "foreign"])
def test_the_sweep_takes_nothing_else(why, key):
    """Without our mark, with a key, a page, a user, a living creator or another owner: it stays."""
    size = MARK + 1 if why == "unmarked" else MARK + 4096
    if why == "alive":
        id, pid = libc.shmget(0, ctypes.c_size_t(size), IPC_CREAT | 0o600), None
    else:
        signed = ctypes.c_int(key).value if why == "keyed" else 0
        id, pid = leave_behind(size, signed, touch=why == "touched")
        os.waitpid(pid, 0)
    holder = None
    if why == "attached":
        holder = libc.shmat(id, None, SHM_RDONLY)
    if why == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a segment away")
        shm.change_segment(id, uid=65534)
    try:
        assert shm.sweep() == 0
        assert exists(id)
    finally:
        if holder is not None:
            libc.shmdt(ctypes.c_void_p(holder))
        libc.shmctl(id, IPC_RMID, None)


@support.need_root
def test_the_sweep_leaves_creators_of_other_pid_namespaces_alone():
    """A creator that cannot be seen from here is unknown, and unknown is not dead."""
    id, pid = leave_behind()
    os.waitpid(pid, 0)
    try:
        swept = support.in_namespace("p", "from memfast import shm; print(shm.sweep())")
        assert swept == "0\n"
        assert exists(id)
    finally:
        assert shm.sweep() == 1


@pytest.mark.parametrize("call", ["shmget", "shmat", "shmctl", "madvise", "getrandom"])
@pytest.mark.parametrize("fault", ["error=ENOMEM", "signal=SIGKILL"])
def test_a_creation_that_fails_at_any_call_leaves_nothing(call, fault, tmp_path):
    """The n-th system call fails or kills: an OSError with its errno, and nothing stays behind."""
    code = """
import errno, os, sys
import memfast
warm = memfast.Segment.create(1)
os.write(1, b"ready\\n")
try:
    with memfast.Segment.create(100_000) as segment, memfast.Segment.create(9, readonly=True):
        segment.write(b"fine")
except OSError as error:
    assert error.errno == errno.ENOMEM, error
    print("failed")
"""
    trace = tmp_path / "trace"
    tracer = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}"]
    before, struck = support.segments(), 0
    support.subprocess.run([*tracer, sys.executable, "-c", code], check=True, capture_output=True)
    calls = trace.read_text().count(f"{call}(")  # the first are those of the warm-up
    for nth in range(max(1, calls - 7), calls + 1):
        command = [*tracer, "-e", f"inject={call}:{fault}:when={nth}", sys.executable, "-c", code]
        done = support.subprocess.run(command, capture_output=True, text=True, check=False)
        killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if "ready" in done.stdout:
            assert killed or done.returncode == 0, done.stderr
            struck += killed or "failed" in done.stdout
        # Killed between shmget and IPC_RMID: one segment, which the next create takes away.
        assert len(support.segments() - before) <= ("KILL" in fault)
        shm.sweep()
        assert support.segments() == before
    assert struck > 0


# ---- who may ----


@support.need_root
def test_another_user_s_segment_is_refused():
    """A process of another user gets AccessError for a 0600 segment, and reads a 0644 one only."""
    code = """
import os, sys, memfast
memfast.Segment.create(1).close()
os.setgid(65534); os.setuid(65534)
id, wanted = int(sys.argv[1]), sys.argv[2]
def refused(**how):
    try:
        memfast.Segment.open(id=id, **how)
    except memfast.AccessError as error:
        assert "uid 65534" in str(error), error
        return True
    return False
assert refused()
assert refused(readonly=True) == (wanted == "nothing")
if wanted == "reading":
    with memfast.Segment.open(id=id, readonly=True) as segment:
        assert segment.read(4) == b"data"
        for change in (lambda: segment.chmod(0o666), segment.remove, lambda: segment.chown(65534)):
            try:
                change()
            except memfast.AccessError:
                continue
            raise SystemExit("allowed")
"""
    with Segment.create(100) as segment:
        segment.write(b"data")
        support.run_python(code, segment.id, "nothing")
        segment.chmod(0o644)
        support.run_python(code, segment.id, "reading")
        assert segment.stat().mode == 0o644


@support.need_root
def test_open_or_create_refuses_a_key_that_another_user_has_taken(key):
    """A planted segment is refused, unless the mode says that others are welcome."""
    with Segment.open_or_create(key, 100, mode=0o666) as planted:
        planted.chown(65534, 65534)
        with pytest.raises(memfast.AccessError, match="65534"):
            Segment.open_or_create(key, 100)
        Segment.open_or_create(key, 100, mode=0o660).close()
        planted.remove()


@support.need_root
def test_another_ipc_namespace_is_named():
    """A handle carried into another IPC namespace is stale, and says that this is why."""
    code = """
import pickle, sys, memfast
try:
    pickle.loads(bytes.fromhex(sys.argv[1]))
except memfast.StaleHandleError as error:
    assert "IPC namespace" in str(error)
    print("stale")
"""
    with Segment.create(1) as segment:
        assert support.in_namespace("i", code, pickle.dumps(segment).hex()) == "stale\n"


@support.need_root
def test_another_pid_namespace_is_no_obstacle():
    """The creator's pid means nothing in another pid namespace, and the nonce decides."""
    code = """
import pickle, sys
with pickle.loads(bytes.fromhex(sys.argv[1])) as segment:
    print(segment.read(2).decode())
"""
    with Segment.create(100) as segment:
        segment.write(b"ok")
        assert support.in_namespace("p", code, pickle.dumps(segment).hex()) == "ok\n"


def test_arrays_on_one_segment_meet_in_two_processes():
    """A NumPy array in a child is the parent's array: no copy anywhere."""
    with Segment.create(8 * 1000) as segment:
        table = segment.ndarray((1000,), "i8")

        def child():
            with Segment.open(id=segment.id) as mine:
                mine.ndarray((1000,), "i8")[:] = np.arange(1000)

        with support.forked(child) as pid:
            assert support.exit_status(pid) == 0
        assert table.sum() == 499_500
