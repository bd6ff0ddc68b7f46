"""sysv.remove_on_exit(): a keyed segment goes with its program, whatever ends it but SIGKILL."""

from __future__ import annotations

import os
import secrets
import signal

import pytest
import support

from memfast import Segment, sysv

CHILD = """
import os, signal, sys, time
from memfast import Segment, sysv
key = int(sys.argv[1])
segment = Segment.create(4096, key=key)
{before}
sysv.remove_on_exit(segment)
print("ready", flush=True)
{after}
"""
SLEEP = "time.sleep(60)"


@pytest.fixture
def key():
    """Return a key that nobody uses; what is left there is removed."""
    number = secrets.randbelow(0xFFFFFFFE) + 1
    yield number
    sysv.remove(keys=[number])


def child(key, after=SLEEP, before=""):
    return support.python_child(CHILD.format(before=before, after=after), key)


def there(key):
    """Return the segments that have the key."""
    return [segment for segment in sysv.segments() if segment.key == key]


def read_ready(process):
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_and_is_what_the_process_dies_of(key, number):
    """The segment is gone, and the parent sees the signal, not an exit status."""
    with child(key) as process:
        read_ready(process)
        assert len(there(key)) == 1
        process.send_signal(number)
        assert process.wait(20) == -number
    assert there(key) == []


def test_sigkill_leaves_an_orphan_that_remove_finds(key):
    """No handler runs then; the creator is provably dead, so it is an orphan."""
    with child(key) as process:
        read_ready(process)
        assert [
            one for one in sysv.remove(keys=[key], orphans=True) if one.outcome != "failed"
        ] == []
        process.kill()
        process.wait(20)
    assert len(there(key)) == 1
    assert [one.outcome for one in sysv.remove(keys=[key], orphans=True)] == ["removed"]
    assert there(key) == []


@pytest.mark.parametrize("after", ["", "sys.exit(3)", "raise ValueError", "segment.close()"])
def test_a_clean_exit_removes(key, after):
    """Also of a closed handle, also with an error."""
    with child(key, after) as process:
        read_ready(process)
        process.wait(20)
    assert there(key) == []


def test_the_handler_that_was_there_is_called(key):
    """A program's own handler of SIGTERM runs after the removal, and may go on."""
    before = "signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True))"
    with child(key, SLEEP, before) as process:
        read_ready(process)
        process.terminate()
        assert process.stdout.readline() == "mine\n"
        assert there(key) == []
        process.kill()
        assert process.wait(20) == -signal.SIGKILL


def test_ctrl_c_unwinds_as_ever(key):
    """KeyboardInterrupt reaches the program, with the segment gone already."""
    after = (
        "try:\n    print('within', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
        "    print('caught', len([1 for one in sysv.segments() if one.key == key]), flush=True)"
    )
    with child(key, after) as process:
        read_ready(process)
        assert process.stdout.readline() == "within\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "caught 0\n"
        assert process.wait(20) == 0


def test_an_ignored_signal_stays_ignored(key):
    """As under nohup(1): SIGHUP neither removes nor kills."""
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    after = "os.kill(os.getpid(), signal.SIGHUP); print(len(sysv.segments(attached=False)) > 0)"
    with child(key, after, before) as process:
        read_ready(process)
        assert process.stdout.readline() == "True\n"
        assert process.wait(20) == 0


def test_a_fork_removes_nothing(key):
    """Neither at its exit nor at a signal; it dies of the signal as it would have."""
    after = (
        "for end in (lambda: sys.exit(0), lambda: (os.kill(os.getpid(), 15), time.sleep(60))):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        end()\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]),\n"
        "          len([1 for one in sysv.segments() if one.key == key]), flush=True)\n"
    )
    with child(key, after) as process:
        read_ready(process)
        assert process.stdout.readline() == "0 1\n"
        assert process.stdout.readline() == "-15 1\n"
        assert process.wait(20) == 0
    assert there(key) == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_that_asked_removes(key, method):
    """Such a child skips atexit at its clean end."""
    code = (
        "import multiprocessing, sys\n"
        "from memfast import Segment, sysv\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context('{method}')\n"
        "    with Segment.create(4096, key=int(sys.argv[1])) as segment:\n"
        "        child = context.Process(target=sysv.remove_on_exit, args=(segment,))\n"
        "        child.start()\n"
        "        child.join()\n"
        "        print(child.exitcode, segment.stat().dest)\n"
    )
    assert support.run_python(code, key).split() == ["0", "True"]


def test_a_segment_with_a_new_owner_of_its_key_is_left_alone(key):
    """What another program made at the key meanwhile is not ours to remove."""
    after = "segment.remove(); segment.close(); sys.stdin.readline()"
    code = CHILD.format(before="", after=after)
    with support.python_child(code, key) as process:
        read_ready(process)
        support.until(lambda: not there(key))
        with Segment.create(100, key=key):
            process.terminate()
            process.wait(20)
            assert len(there(key)) == 1


def test_what_cannot_be_handled_changes_nothing(key):
    """SIGKILL among the signals: ValueError, and the handlers are as they were."""
    before = signal.getsignal(signal.SIGTERM)
    with Segment.create(10, key=key) as segment:
        with pytest.raises(ValueError, match="remove_on_exit"):
            sysv.remove_on_exit(segment, [signal.SIGTERM, signal.SIGKILL])
        assert signal.getsignal(signal.SIGTERM) is before
        with support.forked(lambda: os._exit(0)) as pid:
            assert support.exit_status(pid) == 0
        assert len(there(key)) == 1
