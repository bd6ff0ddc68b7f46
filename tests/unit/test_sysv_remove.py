"""sysv.remove(): each choice removes what it says and nothing else; orphans; the last look."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import time
from pathlib import Path

import pytest
import support

import memfast
from memfast import Segment, sysv, sysvlist

# id -> (size, owner, key): made as root, given away by IPC_SET as chown(2) would; two attached.
WORLD = """
import ctypes, json, os, sys
from memfast import Segment, shm, sysv
libc = ctypes.CDLL(None)
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
kept = {}
for size, uid, key in [(100, 0, 1), (100, 1000, 2), (5000, 0, 0), (5000, 1000, 0), (70000, 1000, 3),
                       (70000, 65534, 0xFFFFFFF0 - (1 << 32))]:
    id = libc.shmget(key, size, 0o1600)
    shm.change_segment(id, uid=uid, gid=uid)
    kept[id] = size
ids = sorted(kept)
held = [Segment.open(id=ids[1]), Segment.open(id=ids[4])]
array, queue = libc.semget(5, 2, 0o1600), libc.msgget(6, 0o1600)
"""
CHOICES = [
    ({"ids": [0]}, {0: "removed"}),
    ({"ids": [0, 1, 0]}, {0: "removed", 1: "marked"}),
    ({"keys": [1, 3]}, {0: "removed", 4: "marked"}),
    ({"ids": [2], "keys": [0xFFFFFFF0]}, {2: "removed", 5: "removed"}),
    ({"ids": [0], "keys": [1]}, {0: "removed"}),
    ({"owner": 0}, {0: "removed", 2: "removed"}),
    ({"owner": "root"}, {0: "removed", 2: "removed"}),
    ({"owner": "1000"}, {1: "marked", 3: "removed", 4: "marked"}),
    ({"size": 5000}, {2: "removed", 3: "removed"}),
    ({"min_size": 5000}, {2: "removed", 3: "removed", 4: "marked", 5: "removed"}),
    ({"min_size": 5001, "size": 5000}, {}),
    ({"owner": 1000, "size": 5000}, {3: "removed"}),
    ({"owner": 1000, "min_size": 5000}, {3: "removed", 4: "marked"}),
    ({"owner": 12345}, {}),
    ({"everything": True, "owner": 65534}, {5: "removed"}),
    ({"everything": True}, {i: "marked" if i in (1, 4) else "removed" for i in range(6)}),
    ({"ids": [0, 3, 99], "owner": 0}, {0: "removed", 3: "failed", 99: "failed"}),
    ({"ids": [1], "orphans": True}, {1: "failed"}),
    ({"owner": 0, "dry_run": True}, {0: "would remove", 2: "would remove"}),
    ({"keys": [3], "dry_run": True}, {4: "would mark"}),
    ({"orphans": True}, {}),
]


@support.need_root
@pytest.mark.parametrize(("choice", "expected"), CHOICES, ids=[str(one) for one, _ in CHOICES])
def test_each_choice_removes_what_it_says(choice, expected):
    """Choices together must all fit; every other segment, array and queue stays as it was."""
    code = f"""{WORLD}
before = {{one.id: one for one in sysv.segments()}}
outcomes = sysv.remove(**json.loads(sys.argv[1]))
after = {{one.id: one for one in sysv.segments()}}
assert len(sysv.semaphores()) == len(sysv.message_queues()) == 1
print(json.dumps([
    {{one.id: one.outcome for one in outcomes}},
    [id for id in before if before[id] == after.get(id)],
    [id for id, one in after.items() if one.dest],
    [one.size for one in outcomes if one.outcome != "failed" and one.size != kept[one.id]],
]))
"""
    happened, same, marked, wrong = json.loads(support.in_namespace("i", code, json.dumps(choice)))
    assert {int(id): outcome for id, outcome in happened.items()} == expected
    changed = {id for id, outcome in expected.items() if outcome in ("removed", "marked")}
    assert same == [id for id in range(6) if id not in changed]
    assert marked == [id for id, outcome in sorted(expected.items()) if outcome == "marked"]
    assert wrong == []


@support.need_root
@pytest.mark.parametrize(("kind", "key"), [("sem", 5), ("msg", 6)])
def test_arrays_and_queues_are_removed_likewise(kind, key):
    """By key, by owner, all; the segments stay."""
    for choice in {"keys": [key]}, {"owner": 0}, {"everything": True}, {"ids": [0]}:
        code = f"""{WORLD}
dry = sysv.remove(kind={kind!r}, dry_run=True, **json.loads(sys.argv[1]))
assert len(sysv.semaphores()) == len(sysv.message_queues()) == 1
done = sysv.remove(kind={kind!r}, **json.loads(sys.argv[1]))
assert len(sysv.segments()) == 6
print(dry[0].outcome, "then", done[0].outcome, len(sysv.semaphores()), len(sysv.message_queues()))
"""
        left = "0 1" if kind == "sem" else "1 0"
        said = support.in_namespace("i", code, json.dumps(choice))
        assert said == f"would remove then removed {left}\n"


@support.need_root
def test_what_may_not_be_removed_is_an_outcome():
    """Another user's: it fails and stays, and the rest is removed."""
    code = f"""{WORLD}
sysv.remove(dry_run=True, everything=True)
for one in held:
    one.close()
os.setresuid(1000, 1000, 1000)
for one in sysv.remove(everything=True):
    print(one.id, one.outcome, one.errno, one.error.split(":")[0])
"""
    assert support.in_namespace("i", code).splitlines() == [
        "0 failed 1 permission denied",
        "1 removed 0 ",
        "2 failed 1 permission denied",
        "3 removed 0 ",
        "4 removed 0 ",
        "5 failed 1 permission denied",
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_nothing_chosen_removes_nothing(dry_run):
    """ValueError, which says how to choose; an empty list of ids is no choice."""
    with Segment.create(10) as segment:
        for choice in {}, {"ids": []}, {"keys": ()}, {"orphans": False}:
            with pytest.raises(ValueError, match="choose by ids, keys, owner"):
                sysv.remove(**choice, dry_run=dry_run)
        assert segment.id in {one.id for one in sysv.segments()}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"owner": "nosuch user"}, "there is no such user"),
        ({"keys": [0]}, "IPC_PRIVATE"),
        ({"kind": "pipe", "ids": [1]}, "'shm', 'sem' or 'msg'"),
        ({"kind": "sem", "size": 3}, "choose segments, not a semaphore array"),
        ({"kind": "msg", "orphans": True}, "choose segments, not a message queue"),
    ],
)
def test_bad_choices_are_refused(choice, message):
    """Before anything is looked at."""
    with pytest.raises(ValueError, match=message):
        sysv.remove(**choice)


def test_numbers_must_be_numbers():
    """A string of an id is a mistake, not an id."""
    for choice in {"ids": ["1"]}, {"keys": [1.5]}, {"size": "100"}, {"owner": 1.5}:
        with pytest.raises(TypeError):
            sysv.remove(**choice)


# ---- the last look ----


def listed(id):
    return {one.id: one for one in sysv.segments()}[id]


def test_what_changed_between_choice_and_removal_is_left_alone():
    """Another owner, another key, another change time, another id: -ESTALE, and it stays."""
    with Segment.create(100) as segment:
        seen = listed(segment.id)
        for change in {"uid": seen.uid + 1}, {"key": seen.key + 1}, {"change_time": 1}:
            assert sysvlist.remove_seen("shm", seen._replace(**change), False) == -errno.ESTALE
        # The kernel takes the low bits as an index: this id names the same slot, not the segment.
        other = seen._replace(id=seen.id + (1 << 24))
        assert sysvlist.remove_seen("shm", other, False) == -errno.ESTALE
        assert sysvlist.remove_seen("shm", seen, True) == -errno.EBUSY  # we have it
        assert listed(segment.id) == seen


@support.need_root
def test_a_new_owner_between_choice_and_removal_is_honoured(monkeypatch):
    """remove(owner=...) chose it; by the time of its turn it belongs to somebody else."""
    libc = ctypes.CDLL(None)
    ids = [libc.shmget(0, ctypes.c_size_t(4242 + i), 0o1600) for i in range(2)]
    really = sysvlist.remove_seen

    def give_away(kind, seen, only_unused):
        if seen.id == ids[0]:
            memfast.shm.change_segment(seen.id, uid=65534)
        return really(kind, seen, only_unused)

    monkeypatch.setattr(sysvlist, "remove_seen", give_away)
    try:
        outcomes = sysv.remove(ids, owner=os.geteuid())
        assert [one.outcome for one in outcomes] == ["failed", "removed"]
        assert "left alone" in outcomes[0].error
        assert listed(ids[0]).uid == 65534
    finally:
        libc.shmctl(ids[0], 0, None)


# ---- orphans ----


def test_an_orphan_is_unattached_and_its_creator_is_dead():
    """Alive, zombie, gone; attached by another: only the provably abandoned one is removed."""
    libc = ctypes.CDLL(None)
    made = []
    read, write = os.pipe()

    def make():
        os.write(write, b"%d" % libc.shmget(0, ctypes.c_size_t(777), 0o1600))
        time.sleep(60)

    try:
        with support.forked(make) as pid:
            made.append(int(os.read(read, 20)))
            (alive,) = sysv.remove(made, orphans=True)
            assert (alive.outcome, "creator may live" in alive.error) == ("failed", True)
            assert listed(made[0]).creator_pid == pid
        with Segment.open(id=made[0]):
            (held,) = sysv.remove(made, orphans=True)
            assert held.outcome == "failed"
        assert [one.outcome for one in sysv.remove(made, orphans=True)] == ["removed"]
    finally:
        os.close(read)
        os.close(write)
        for id in made:
            libc.shmctl(id, 0, None)


def test_a_zombie_s_segment_is_an_orphan():
    """It will never attach again, reaped or not."""
    libc = ctypes.CDLL(None)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"%d" % libc.shmget(0, ctypes.c_size_t(777), 0o1600))
        os._exit(0)
    id = int(os.read(read, 20))
    support.until(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text())
    try:
        assert [one.outcome for one in sysv.remove([id], orphans=True)] == ["removed"]
    finally:
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


REUSE = """
import ctypes, os, time
from memfast import sysv
libc = ctypes.CDLL(None)
sysv.usage()
pid = os.fork()
if pid == 0:
    libc.shmget(0x42, ctypes.c_size_t(777), 0o1600)
    os._exit(0)
os.waitpid(pid, 0)
time.sleep(1.1)  # so that the new process has started in a later second than the segment
with open("/proc/sys/kernel/ns_last_pid", "w") as last:
    last.write(str(pid - 1))
other = os.fork()
if other == 0:
    time.sleep(60)
assert other == pid, (other, pid)
print([one.outcome for one in sysv.remove(keys=[0x42], orphans=True)])
os.kill(other, 9)
os.waitpid(other, 0)
print([one.outcome for one in sysv.remove(keys=[0x42], orphans=True)])
"""


@support.need_root
def test_a_reused_pid_is_taken_for_the_creator():
    """While any process has the pid nothing is proven, and the segment stays; then it goes."""
    assert support.in_namespace("ip", REUSE).splitlines() == ["['failed']", "['removed']"]


@support.need_root
def test_a_creator_of_another_pid_namespace_is_unknown():
    """Its pid is 0 here, alive or dead: no proof, and never an orphan."""
    code = """
import subprocess, sys
from memfast import sysv
make = "import ctypes; ctypes.CDLL(None).shmget(0x43, ctypes.c_size_t(777), 0o1600)"
look = "from memfast import sysv; print([one.creator_pid for one in sysv.segments()],"
look += "[one.outcome for one in sysv.remove(keys=[0x43], orphans=True)],"
look += "sysv.remove(orphans=True))"
subprocess.run([sys.executable, "-c", make], check=True)
subprocess.run(["unshare", "-p", "--fork", "--mount-proc", sys.executable, "-c", look], check=True)
print([one.outcome for one in sysv.remove(orphans=True)])
"""
    said = support.in_namespace("i", code).splitlines()
    assert said == ["[0] ['failed'] []", "['removed']"]
