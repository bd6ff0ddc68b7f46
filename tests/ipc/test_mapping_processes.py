"""Mappings in many processes: handed on, named, left by the dead, and short of room."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import support

import memfast
from memfast import MemoryMap

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = os.sysconf("SC_PAGESIZE")
METHODS = ["fork", "spawn", "forkserver"]


def make_memfd(_name: str, _folder: Path) -> MemoryMap:
    return MemoryMap.create(3 * PAGE)


def make_named(name: str, _folder: Path) -> MemoryMap:
    return MemoryMap.create(3 * PAGE, name=name)


def make_file(_name: str, folder: Path) -> MemoryMap:
    (folder / "file").write_bytes(bytes(5 * PAGE))
    return MemoryMap.file(folder / "file", readonly=False, offset=PAGE + 3, length=PAGE)


MAKERS = [make_memfd, make_named, make_file]


def answer(made: MemoryMap, pipe: Any, wait: float) -> None:
    """Be a child that has been given a map: say what it holds, and change it."""
    time.sleep(wait)
    pipe.send((made.size, made.name, made.readonly, bytes(made.buf[:5])))
    if not made.readonly:
        made.buf[:5] = b"child"
    made.close()


# ---- handed on ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", MAKERS)
def test_a_map_reaches_a_child_that_starts_late(
    make: Callable[[str, Path], MemoryMap], method: str, name: str, tmp_path: Path
) -> None:
    """Under every start method a child maps the same memory, also when the parent let go."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    made = make(name, tmp_path)
    view = made.buf
    view[:5] = b"hello"
    child = context.Process(target=answer, args=(made, theirs, 0.05))
    child.start()
    made.close()  # long before the child has unpickled its own
    theirs.close()
    assert ours.recv() == (view.nbytes, name if make is make_named else None, False, b"hello")
    child.join()
    ours.close()
    assert child.exitcode == 0
    assert view[:5] == b"child"
    child.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_read_only_map_stays_read_only(method: str, tmp_path: Path) -> None:
    """What was opened for reading arrives for reading."""
    (tmp_path / "file").write_bytes(b"hello" * 10)
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with MemoryMap.file(tmp_path / "file") as made:
        child = context.Process(target=answer, args=(made, theirs, 0))
        child.start()
        assert ours.recv() == (50, None, True, b"hello")
        child.join()
        child.close()
    ours.close()
    theirs.close()


OPENER = """
import pickle, sys, memfast
for line in sys.stdin:
    try:
        made = pickle.loads(bytes.fromhex(line))
        made.buf[5:10] = b"there"
        print(bytes(made.buf[:5]), flush=True)
    except OSError as error:
        print(type(error).__name__, error, flush=True)
"""


@pytest.mark.parametrize("make", MAKERS)
def test_any_other_pickle_is_good_while_its_maker_has_it(
    make: Callable[[str, Path], MemoryMap], name: str, tmp_path: Path
) -> None:
    """Outside of a start a pickle finds the memory again, and says when it is gone."""
    with support.python_child(OPENER) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        with make(name, tmp_path) as made:
            made.buf[:5] = b"hello"
            data = pickle.dumps(made)
            child.stdin.write(data.hex() + "\n")
            assert child.stdout.readline() == "b'hello'\n"
            assert bytes(made.buf[5:10]) == b"there"
    with pytest.raises(memfast.NotFoundError):
        pickle.loads(data)


def test_a_pickle_is_not_taken_in_by_another_file(tmp_path: Path) -> None:
    """A descriptor number that leads to another file by now is StaleHandleError."""
    (tmp_path / "file").write_bytes(bytes(PAGE))
    made = MemoryMap.create(PAGE)
    data, number = pickle.dumps(made), made.fileno()
    made.close()
    other = os.open(tmp_path / "file", os.O_RDWR)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    with pytest.raises(memfast.StaleHandleError, match="another file"):
        pickle.loads(data)
    os.close(number)


def test_a_pickle_is_not_taken_in_by_a_newer_name(name: str) -> None:
    """A name that stands for a newer map by now is StaleHandleError, and the newer one unharmed."""
    with MemoryMap.create(PAGE, name=name) as old:
        data = pickle.dumps(old)
        old.unlink()
        with MemoryMap.create(PAGE, name=name) as new:
            with pytest.raises(memfast.StaleHandleError, match="newer"):
                pickle.loads(data)
            with MemoryMap.open(name) as again:
                again.buf[0] = 1
            assert new.buf[0] == 1


# ---- names ----

KEEPER = """
import sys, memfast
made = getattr(memfast.MemoryMap, sys.argv[1])(*eval(sys.argv[2]), **eval(sys.argv[3]))
made.buf[:4] = b"kept"
print(made.size, flush=True)
sys.stdin.readline()
made.close()
"""


def file_of(name: str) -> Path:
    return support.NAMES / f"{name}.map"


def kill(child: Any) -> None:
    child.kill()
    child.wait()


def test_a_name_goes_with_its_last_user(name: str) -> None:
    """Whoever closes last, creator or not, removes the name; before that it stays."""
    with support.python_child(KEEPER, "create", (100,), {"name": name}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "100\n"
        ours = MemoryMap.open(name)
        child.communicate("\n")
        assert child.returncode == 0
    assert bytes(ours.buf[:4]) == b"kept"
    assert file_of(name).exists()
    with MemoryMap.open(name) as third:
        assert third.size == 100
    ours.close()
    assert not file_of(name).exists()


def keep(made: MemoryMap, pipe: Any) -> None:
    """Be a child that never closes what it was given, and what it opens."""
    global _kept
    _kept = (made, MemoryMap.create(7, name=f"{made.name}-own"))
    pipe.send("ready")
    pipe.recv()


@pytest.mark.parametrize("method", METHODS)
def test_a_child_s_clean_end_is_a_close(method: str, name: str) -> None:
    """A multiprocessing child that just returns leaves no name behind, its own or a given one."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    made = MemoryMap.create(9, name=name)
    child = context.Process(target=keep, args=(made, theirs))
    child.start()
    assert ours.recv() == "ready"
    made.close()
    assert file_of(name).exists()
    ours.send("end")
    child.join()
    assert child.exitcode == 0
    child.close()
    ours.close()
    theirs.close()
    assert not file_of(name).exists()
    assert not file_of(f"{name}-own").exists()


def test_a_handle_that_is_only_dropped_removes_the_name_too(name: str) -> None:
    """Without close(), garbage collection and the end of the interpreter do it."""
    code = "import memfast, sys; kept = memfast.MemoryMap.create(9, name=sys.argv[1])"
    support.run_python(code, name)
    assert not file_of(name).exists()
    made = MemoryMap.create(9, name=name)
    del made
    assert not file_of(name).exists()


def test_a_name_left_by_the_dead_is_removed_by_the_next_open(name: str) -> None:
    """After SIGKILL of the only user, open() says that it is stale, then that it is not there."""
    with support.python_child(KEEPER, "create", (100,), {"name": name}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        kill(child)
    assert file_of(name).exists()
    with pytest.raises(memfast.StaleHandleError):
        MemoryMap.open(name)
    assert not file_of(name).exists()
    with pytest.raises(memfast.NotFoundError) as caught:
        MemoryMap.open(name)
    assert not isinstance(caught.value, memfast.StaleHandleError)


def test_a_name_left_by_the_dead_is_replaced_by_the_next_create(name: str) -> None:
    """After SIGKILL of the only user, create() takes the name and gives fresh zeroes."""
    with support.python_child(KEEPER, "create", (100,), {"name": name}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(memfast.ExistsError):
            MemoryMap.create(50, name=name)
        kill(child)
    with MemoryMap.create(50, name=name) as made:
        assert bytes(made.buf) == bytes(50)
        assert MemoryMap.open(name).size == 50
    assert not file_of(name).exists()


def test_a_persistent_name_outlives_everybody(name: str) -> None:
    """persist=True keeps memory and name over close, exit and SIGKILL, until unlink()."""
    with support.python_child(KEEPER, "create", (9,), {"name": name, "persist": True}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        kill(child)
    with MemoryMap.open(name) as made:
        assert bytes(made.buf[:4]) == b"kept"
    with pytest.raises(memfast.ExistsError):
        MemoryMap.create(9, name=name)
    with MemoryMap.open(name, readonly=True) as made:
        made.unlink()
        assert bytes(made.buf[:4]) == b"kept"
        with pytest.raises(memfast.NotFoundError):
            made.unlink()
    assert not file_of(name).exists()


def test_unlink_never_takes_a_newer_map_s_name(name: str) -> None:
    """Old handles neither unlink nor, at close, remove the name of a newer map."""
    old, other = MemoryMap.create(9, name=name), MemoryMap.open(name)
    old.unlink()
    with MemoryMap.create(9, name=name) as new:
        with pytest.raises(memfast.StaleHandleError, match="newer"):
            old.unlink()
        old.close()
        other.close()
        assert MemoryMap.open(name).size == new.size
    with MemoryMap.create(9) as nameless, pytest.raises(ValueError, match="no name"):
        nameless.unlink()


def test_a_forked_child_keeps_the_name_and_its_close_does_not_take_it(name: str) -> None:
    """Parent and child each count as a user, whichever closes, exits or is killed first."""
    made = MemoryMap.create(9, name=name)
    with support.forked(made.close) as pid:
        assert support.exit_status(pid) == 0
    assert MemoryMap.open(name).size == 9
    with support.forked(lambda: signal.pause()) as pid:
        made.close()
        assert MemoryMap.open(name).size == 9
        os.kill(pid, signal.SIGKILL)
        support.exit_status(pid)
    with pytest.raises(memfast.StaleHandleError):
        MemoryMap.open(name)


def test_one_of_many_creators_wins(name: str) -> None:
    """Processes that replace a stale name at once: one gets it, the others say it is taken."""
    code = """
import sys, time, memfast
sys.stdin.readline()
for _ in range(40):
    try:
        with memfast.MemoryMap.create(64, name=sys.argv[1]) as made:
            made.buf[:8] = int(sys.argv[2]).to_bytes(8, "little")
            with memfast.MemoryMap.open(sys.argv[1]) as same:
                assert bytes(same.buf[:8]) == bytes(made.buf[:8]), "the name is another's"
    except memfast.ExistsError:
        pass
print("done")
"""
    support.NAMES.mkdir(mode=0o700, exist_ok=True)
    file_of(name).write_bytes(b"stale")
    children = [support.python_child(code, name, number) for number in range(4)]
    started = [child.__enter__() for child in children]
    for child in started:
        assert child.stdin is not None
        child.stdin.write("\n")
    said = [child.communicate()[0] for child in started]
    for child in children:
        child.__exit__(None, None, None)
    assert said == ["done\n"] * 4
    assert not file_of(name).exists()


def test_create_and_crash_cycles_do_not_grow(name: str) -> None:
    """Names, descriptors and mappings stay level over 200 crashes under one name."""
    names, descriptors = set(os.listdir(support.NAMES)), support.descriptors()

    def crash() -> None:
        MemoryMap.create(PAGE, name=name).buf[0] = 1
        made = MemoryMap.create(PAGE, name=name)
        made.buf[0] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(200):
        with support.forked(crash) as pid:
            assert support.exit_status(pid) == -signal.SIGKILL
    assert set(os.listdir(support.NAMES)) - names == {file_of(name).name}
    assert support.descriptors() == descriptors
    with pytest.raises(memfast.StaleHandleError):
        MemoryMap.open(name)


def test_a_child_forked_at_any_moment_takes_no_lock_along(name: str) -> None:
    """Forks while another thread is inside of create() and close() block nobody later."""
    stop, wrong = threading.Event(), []

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                MemoryMap.create(1, name=f"{name}-{number}").close()
            except memfast.MemfastError as error:
                wrong.append(error)
                return

    thread = threading.Thread(target=churn)
    thread.start()
    children = []
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
    stop.set()
    thread.join()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not wrong
    for file in support.NAMES.glob(f"{name}-*.map"):  # a child had it when its creator closed
        with pytest.raises(memfast.StaleHandleError):
            MemoryMap.open(file.stem)
