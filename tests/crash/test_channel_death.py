"""Whoever waits for a process that dies, stops or hides learns the truth, in time."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time

import pytest
import support

import memfast

TOLD_WITHIN = 0.1  # promise 3: seconds from a death to PeerDiedError


def claim_and_sleep(channel: memfast.Channel, role: str, ready: int) -> None:
    end = getattr(channel, role)()
    os.write(ready, b"x")
    time.sleep(60)
    end.close()


@pytest.fixture
def channel():
    with memfast.Channel.create(capacity=4096) as channel:
        yield channel


@pytest.fixture
def peer(channel):
    """Start a child that holds a role, and wait until it has it."""
    children = []

    def start(role: str):
        reader, writer = os.pipe()
        child = support.forked(lambda: claim_and_sleep(channel, role, writer))
        pid = child.__enter__()
        children.append((child, reader, writer))
        os.read(reader, 1)
        return pid

    yield start
    for child, reader, writer in children:
        child.__exit__(None, None, None)
        os.close(reader)
        os.close(writer)


def kill_later(pid: int, delay: float) -> subprocess.Popen[str]:
    """Kill *pid* after *delay* seconds from another process; it prints when it did."""
    code = (
        "import os, sys, time\n"
        "time.sleep(float(sys.argv[2])); now = time.monotonic_ns()\n"
        "os.kill(int(sys.argv[1]), 9); print(now)\n"
    )
    return subprocess.Popen(support.python(code, pid, delay), stdout=subprocess.PIPE, text=True)


def blocked(channel: memfast.Channel, role: str):
    """Claim a role and return the call that waits for the other."""
    if role == "receiver":
        return channel.receiver().recv
    sender = channel.sender()
    while sender.try_send(b"x" * 100):
        pass
    return lambda: sender.send(b"x" * 100)


@pytest.mark.parametrize("waited", [0.0, 0.3])
@pytest.mark.parametrize("role", ["receiver", "sender"])
def test_a_death_is_told_to_who_waits(channel, peer, role, waited):
    """Both roles, soon after the wait began and long after; the dead stays a zombie meanwhile."""
    pid = peer("sender" if role == "receiver" else "receiver")
    call = blocked(channel, role)
    with kill_later(pid, waited), pytest.raises(memfast.PeerDiedError) as caught:
        call()
    assert caught.value.pid == pid


def test_deaths_are_told_within_a_tenth_of_a_second(channel):
    """The median of eleven deaths, at moments spread over the first two slices of a wait."""
    late = []
    for number in range(11):
        with memfast.Channel.create(capacity=4096) as one, one.receiver() as receiver:
            reader, writer = os.pipe()
            with support.forked(lambda one=one, w=writer: claim_and_sleep(one, "sender", w)) as pid:
                os.read(reader, 1)
                with kill_later(pid, 0.01 * number) as killer:
                    with pytest.raises(ConnectionResetError):
                        receiver.recv()
                    late.append((time.monotonic_ns() - int(killer.stdout.readline())) / 1e9)
            os.close(reader)
            os.close(writer)
    assert sorted(late)[len(late) // 2] < TOLD_WITHIN, late


def test_messages_of_the_dead_come_before_the_news(channel):
    """Everything that was sent is received first, then PeerDiedError, again and again."""

    def child() -> None:
        sender = channel.sender()
        for number in range(20):
            sender.send(bytes([number]) * 50)
        os.kill(os.getpid(), signal.SIGKILL)

    with channel.receiver() as receiver, support.forked(child):
        got = [receiver.recv(timeout=20) for _ in range(20)]
        assert got == [bytes([number]) * 50 for number in range(20)]
        for _ in range(2):
            with pytest.raises(memfast.PeerDiedError):
                receiver.recv(timeout=20)
        with channel.sender() as successor:
            successor.send(b"next")
            assert receiver.recv(timeout=20) == b"next"


def test_a_forked_child_of_the_dead_does_not_keep_it_alive(channel):
    """The survivor inherited memory and descriptors, and is not the sender."""
    reader, writer = os.pipe()

    def child() -> None:
        sender = channel.sender()
        if os.fork() == 0:
            os.read(reader, 1)
            os._exit(0)
        sender.send(b"one")
        os.kill(os.getpid(), signal.SIGKILL)

    with channel.receiver() as receiver, support.forked(child):
        assert receiver.recv(timeout=20) == b"one"
        with pytest.raises(memfast.PeerDiedError):
            receiver.recv(timeout=20)
        channel.sender().close()
    os.write(writer, b"x")
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("role", ["receiver", "sender"])
def test_a_stopped_peer_is_slow_and_not_dead(channel, peer, role):
    """The own timeout holds, nothing is stolen, and after SIGCONT it still has its role."""
    other = "sender" if role == "receiver" else "receiver"
    pid = peer(other)
    os.kill(pid, signal.SIGSTOP)
    call = blocked(channel, role)
    if role == "receiver":
        begin = time.monotonic()
        with pytest.raises(memfast.WaitTimeout):
            call(timeout=0.3)
        assert time.monotonic() - begin >= 0.3
    with pytest.raises(memfast.RoleTakenError) as caught:
        getattr(channel, other)()
    assert caught.value.pid == pid
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(memfast.RoleTakenError):
        getattr(channel, other)()


def test_an_idle_receiver_costs_next_to_nothing(channel, peer):
    """Five seconds of waiting for a live sender: at most 5 ms of CPU, all threads included."""
    peer("sender")
    with channel.receiver() as receiver:
        with pytest.raises(memfast.WaitTimeout):
            receiver.recv(timeout=0.2)
        before = resource.getrusage(resource.RUSAGE_SELF)
        with pytest.raises(memfast.WaitTimeout):
            receiver.recv(timeout=5)
        after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used <= 0.005, f"{used * 1e3:.1f} ms"


@support.need_root
def test_a_peer_in_another_pid_namespace_is_never_taken_for_dead(name):
    """Its pid means nothing to us: timeouts hold, its role is not stolen, its messages arrive."""
    code = (
        "import os, sys, time, memfast\n"
        "tx = memfast.Channel.open(sys.argv[1]).sender()\n"
        "tx.send(b'%d' % os.getpid())\n"
        "time.sleep(0.8); tx.send(b'second'); time.sleep(30)\n"
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += support.python(code, name)
    with memfast.Channel.create(name) as channel, channel.receiver() as receiver:
        with subprocess.Popen(command) as child:
            try:
                inside = int(receiver.recv(timeout=20))
                assert inside < 10  # a pid of the new namespace, that here is another process's
                with pytest.raises(memfast.WaitTimeout):
                    receiver.recv(timeout=0.2)
                with pytest.raises(memfast.RoleTakenError):
                    channel.sender()
                assert receiver.recv(timeout=20) == b"second"
            finally:
                child.kill()
        # Dead now; but that cannot be known from here, and unknown counts as alive.
        with pytest.raises(memfast.WaitTimeout):
            receiver.recv(timeout=0.2)
        with pytest.raises(memfast.RoleTakenError):
            channel.sender()


def test_an_exhausted_descriptor_table_hides_no_death(channel, peer):
    """Where the peer cannot be watched for want of a descriptor, it is asked after in slices."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: gone, not a zombie
    pid = peer("sender")
    with channel.receiver() as receiver, kill_later(pid, 0.3) as killer:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(memfast.PeerDiedError):
                receiver.recv(timeout=20)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            signal.signal(signal.SIGCHLD, before)
        killer.wait(20)


def test_a_daemonizer_that_closes_every_descriptor_hides_no_death():
    """The watch loses its descriptors, touches none that came after, and deaths are still told."""
    code = (
        "import os, sys, time, memfast\n"
        "ch = memfast.Channel.create()\n"
        "r, w = os.pipe()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    tx = ch.sender(); os.write(w, b'x'); time.sleep(1.0); os.kill(os.getpid(), 9)\n"
        "os.read(r, 1)\n"
        "rx = ch.receiver()\n"
        "try: rx.recv(timeout=0.2)\n"
        "except memfast.WaitTimeout: pass\n"
        "os.closerange(3, 100)\n"
        "fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(20)]\n"
        "try: rx.recv(timeout=20)\n"
        "except memfast.PeerDiedError as error: print(error.pid == pid)\n"
        "rx.close(); ch.close()\n"
        "for fd in fds: os.fstat(fd)\n"
        "os.waitpid(pid, 0)\n"
    )
    assert support.run_python(code).split() == ["True"]


def test_a_thousand_creations_and_crashes_leave_nothing():
    """Segments, names and descriptors: as many afterwards as before."""
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        pid = os.fork()
        if pid == 0:
            channel = memfast.Channel.create(capacity=4096)
            channel.sender().send(b"x")
            channel.receiver().recv()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    # The autouse fixture compares segments and names.
