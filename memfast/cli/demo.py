"""
``memfast demo [FILE]``: a real file crosses between two processes, then one is killed.

Exit status 0 only if all that it claims held.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import memfast
from memfast.cli import crossing
from memfast.cli.crossing import RING, WAIT, Failed, blocks, forked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``memfast``."""
    parser = commands.add_parser(
        "demo",
        help="send a file between two processes, then kill one",
        description="Send a real file from one process to another through shared memory, beside "
        "multiprocessing.Pipe; then kill the sender in mid-flight and show what is left of it.",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="default: the largest file of this Python"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration."""
    path = Path(options.file) if options.file else default_file()
    if path.exists() and not path.is_file():
        print(f"memfast demo: {path} is no regular file", file=sys.stderr)
        return 1
    try:
        data = path.read_bytes()
    except OSError as error:
        print(f"memfast demo: cannot read {path}: {error.strerror}", file=sys.stderr)
        return 1
    if not data:
        print(f"memfast demo: {path} is empty: there is nothing to send", file=sys.stderr)
        return 1
    try:
        with crossing.apart():
            show(path, data)
    except (Failed, memfast.MemfastError) as error:
        print(f"\nmemfast demo: FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def default_file() -> Path:
    """Return the interpreter's shared library, or the largest file of the standard library."""
    folder = sysconfig.get_config_var("LIBDIR")
    name = sysconfig.get_config_var("INSTSONAME")
    library = Path(str(folder), str(name))
    if library.suffix != ".a" and library.is_file():
        return library
    files = (one for one in Path(sysconfig.get_path("stdlib")).glob("*") if one.is_file())
    return max([Path(sys.executable).resolve(), *files], key=lambda one: one.stat().st_size)


def show(path: Path, data: bytes) -> None:
    """Do it all and print what came of it."""
    before = memory()
    print(f"{path}: {len(data):,} bytes, from process to process\n")
    print(f"{'':22}{'memfast.Channel':>18}{'multiprocessing.Pipe':>22}")
    digest = hashlib.sha256(data).hexdigest()
    lanes = crossing.LANES
    line("the file", [crossing.transfer(lane(), data, digest) for lane in lanes], "GB/s", 2)
    line("64-byte messages", [crossing.rate(lane()) for lane in lanes], "M/s", 2)
    trips = [crossing.round_trips(lane()) for lane in lanes]
    line("round trip, median", [one[0] for one in trips], "us", 2)
    line("round trip, 99 %", [one[1] for one in trips], "us", 2)
    print(f"\nSHA-256 at both ends  {digest[:32]}...")
    death(data)
    after = memory()
    print(f"\n{'MiB':22}{'total':>12}{'used':>12}{'shared':>12}{'available':>12}")
    for when, row in (("before", before), ("after", after)):
        print(f"{when:22}" + "".join(f"{value / (1 << 20):12,.0f}" for value in row))
    print("\nAll of it held.")


def line(what: str, values: list[float], unit: str, digits: int) -> None:
    """Print one row: ours, theirs, and how many times better ours is."""
    ratio = values[1] / values[0] if unit == "us" else values[0] / values[1]
    columns = f"{values[0]:,.{digits}f} {unit}", f"{values[1]:,.{digits}f} {unit}"
    times = f"{ratio:,.0f} x" if ratio >= 10 else f"{ratio:.1f} x"
    print(f"{what:22}{columns[0]:>18}{columns[1]:>22}{times:>10}")


# ---- what a kill leaves ----


def death(data: bytes) -> None:
    """Kill a sender in mid-flight and show what the receiver gets and the kernel keeps."""
    channel = memfast.Channel.create(capacity=RING)
    sent = list(blocks(data))

    def send_for_ever() -> None:
        with channel.sender() as sender:
            while True:
                for block in sent:
                    sender.send(block)

    receiver = channel.receiver()
    pid = forked(send_for_ever)
    got = 0

    def take() -> None:
        nonlocal got
        if receiver.recv(timeout=WAIT) != sent[got % len(sent)]:
            raise Failed(f"message {got} was torn")
        got += 1

    try:
        for _ in range(1000):
            take()
        print("\nThe channel as ipcs sees it, marked for removal since its birth:")
        print(ipcs(channel.id))
        os.kill(pid, 9)
        killed = time.perf_counter()
        try:
            while True:
                take()
        except memfast.PeerDiedError as error:
            told = (time.perf_counter() - killed) * 1e3
            if error.pid != pid:
                raise Failed(f"process {error.pid} was reported dead, not {pid}") from None
    finally:
        os.kill(pid, 9)  # a zombie until here: still ours to signal
        os.waitpid(pid, 0)
    print(f"\nThe sender, process {pid}, was killed with SIGKILL in mid-flight.")
    print(f"  whole messages received        {got:,}, none torn, none lost, none twice")
    print(f"  the receiver was told after    {told:.1f} ms")
    segment_id = channel.id
    receiver.close()
    channel.close()
    left = [row for row in shared_memory() if row[1] == str(segment_id)]
    print(f"  left in the kernel             {left or 'nothing'}")
    if left:
        raise Failed("the segment outlived its last user")


def ipcs(segment_id: int) -> str:
    """Return what ipcs(1) prints of one segment, or the kernel's own table without it."""
    try:
        output = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        rows = [" ".join(row) for row in shared_memory() if row[1] in ("shmid", str(segment_id))]
    else:
        rows = [row for row in output.splitlines() if {"shmid", str(segment_id)} & set(row.split())]
    if len(rows) < 2:
        raise Failed("the segment is not to be seen")
    return "\n".join("  " + row.rstrip() for row in rows)


def shared_memory() -> list[list[str]]:
    return [row.split() for row in Path("/proc/sysvipc/shm").read_text().splitlines()]


def memory() -> tuple[int, int, int, int]:
    """Return total, used, shared and available memory of the host, in bytes, as free(1) does."""
    found = {}
    for row in Path("/proc/meminfo").read_text().splitlines():
        key, value = row.split(":")
        found[key] = int(value.split()[0]) * 1024
    total, available = found["MemTotal"], found["MemAvailable"]
    return total, total - available, found["Shmem"], available
