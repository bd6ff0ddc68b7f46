"""A process's mappings: what the kernel prints, all of it, and nothing else."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import pickle
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import support

import memfast
from memfast import Vma, _fast, stats
from memfast.procmaps import Smap

PAGE = mmap.PAGESIZE
KEYS = {  # of smaps -> the fields that are not called alike in lower case
    "KernelPageSize": "kernel_page_size",
    "MMUPageSize": "mmu_page_size",
    "AnonHugePages": "anon_huge_pages",
    "ShmemPmdMapped": "shmem_pmd_mapped",
    "FilePmdMapped": "file_pmd_mapped",
    "SwapPss": "swap_pss",
    "THPeligible": "thp_eligible",
    "VmFlags": "vm_flags",
}


def by_hand(text: str) -> list[Vma]:
    """Parse /proc/PID/maps in the plainest way."""
    rows = []
    for line in text.splitlines():
        span, perms, offset, device, rest = line.split(" ", 4)
        inode, _, path = rest.partition(" ")
        start, end = span.split("-")
        rows.append(
            Vma(
                int(start, 16),
                int(end, 16),
                perms,
                int(offset, 16),
                device,
                int(inode),
                path.strip(),
            )
        )
    return rows


def figures_by_hand(text: str) -> list[dict[str, object]]:
    """Parse /proc/PID/smaps in the plainest way: the figures alone, by their field."""
    rows: list[dict[str, object]] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon or not key.replace("_", "").isalnum() or not key[0].isupper():
            rows.append({})
            continue
        amount = value.split()
        rows[-1][KEYS.get(key, key.lower())] = (
            " ".join(amount)
            if key == "VmFlags"
            else int(amount[0]) * (1024 if amount[1:] == ["kB"] else 1)
        )
    return rows


@pytest.fixture
def sleeper() -> object:
    """Start a process that changes nothing about itself."""
    with subprocess.Popen(["sleep", "60"]) as child:
        support.until(lambda: Path(f"/proc/{child.pid}/exe").resolve().name == "sleep")
        support.until(lambda: "sleep" in Path(f"/proc/{child.pid}/wchan").read_text())
        yield child
        child.kill()


# ---- equal to /proc and psutil ----


def test_the_mappings_are_those_the_kernel_prints(sleeper: subprocess.Popen[bytes]) -> None:
    """Every field of every line of another process's list, in order."""
    expected = by_hand(Path(f"/proc/{sleeper.pid}/maps").read_text())
    assert memfast.vmas(sleeper.pid) == expected
    assert len(expected) > 10
    assert stats.maps is memfast.vmas


def test_the_figures_are_those_the_kernel_prints(sleeper: subprocess.Popen[bytes]) -> None:
    """Every line of smaps is in a field or, if its key is new to us, in `other`; kB are bytes."""
    while True:  # between two readings alike nothing has changed
        before = stats.smaps(sleeper.pid)
        text = Path(f"/proc/{sleeper.pid}/smaps").read_text()
        if before == stats.smaps(sleeper.pid):
            break
    assert [row[:7] for row in before] == memfast.vmas(sleeper.pid)
    for row, expected in zip(before, figures_by_hand(text), strict=True):
        found = row._asdict()
        lowered = {key.lower(): value for key, value in found.pop("other")}
        assert {key: (found | lowered)[key] for key in expected} == expected
        silent = set(found) - set(expected) - set(Vma._fields)
        assert not any(found[key] for key in silent)
    assert sum(row.rss for row in before) > 0
    assert any("rd" in row.vm_flags for row in before)


def test_psutil_sees_the_same_figures(sleeper: subprocess.Popen[bytes]) -> None:
    """psutil's memory_maps(), ungrouped, has our figures, mapping for mapping."""
    while True:
        before = stats.smaps(sleeper.pid)
        theirs = psutil.Process(sleeper.pid).memory_maps(grouped=False)
        if before == stats.smaps(sleeper.pid):
            break
    assert len(theirs) == len(before)
    for ours, other in zip(before, theirs, strict=True):
        assert other.path == (ours.path or "[anon]")
        assert other.perms == ours.perms
        assert other.addr == f"{ours.start:08x}-{ours.end:08x}"
        for field in (
            *("rss", "size", "pss", "shared_clean", "shared_dirty", "private_clean"),
            *("private_dirty", "referenced", "anonymous", "swap"),
        ):
            assert getattr(other, field) == getattr(ours, field), field


def test_touched_pages_are_the_ones_counted() -> None:
    """Three of eight pages written: three resident, dirty and ours alone; given back, none."""
    with mmap.mmap(-1, 8 * PAGE) as made:  # shared, so the kernel joins it with no other
        start = ctypes.addressof(ctypes.c_char.from_buffer(made))
        for page in range(3):
            made[page * PAGE] = 1
        (row,) = (row for row in stats.smaps() if row.start == start)
        assert row.size == row.end - row.start == 8 * PAGE
        assert row.rss == row.pss == row.pss_dirty == row.private_dirty == 3 * PAGE
        assert row.kernel_page_size == row.mmu_page_size == PAGE
        assert row.vm_flags.split()[:3] == ["rd", "wr", "sh"]
        made.madvise(mmap.MADV_DONTNEED)
        (row,) = (row for row in stats.smaps() if row.start == start)
        assert (row.size, row.rss) == (8 * PAGE, 0)


def test_paths_are_kept_as_the_kernel_prints_them(tmp_path: Path) -> None:
    r"""Spaces, backslashes, bytes that are no UTF-8, removed files and \012 for a newline."""
    cases = {
        b"two  words ": b"two  words ",
        b"back\\slash": b"back\\slash",
        b"new\nline": b"new\\012line",
        b"\xff\xfe": b"\xff\xfe",
        b"removed": b"removed (deleted)",
        b"Rss:                  16 kB": b"Rss:                  16 kB",
        b"3f00-4f00 rw-p 0 0:0 1 x": b"3f00-4f00 rw-p 0 0:0 1 x",
    }
    for plain, printed in cases.items():
        file = os.fsencode(tmp_path) + b"/" + plain
        with open(file, "wb") as made:
            made.write(bytes(3 * PAGE))
        inode, device = os.stat(file).st_ino, os.stat(file).st_dev
        with memfast.MemoryMap.file(file, offset=PAGE):
            if plain == b"removed":
                os.unlink(file)
            found = [vma for vma in memfast.vmas() if vma.inode == inode]
            assert [os.fsencode(vma.path) for vma in found] == [
                os.fsencode(tmp_path) + b"/" + printed
            ]
            assert found == [Vma(*row[:7]) for row in stats.smaps() if row.inode == inode]
            vma = found[0]
            assert (vma.end - vma.start, vma.perms, vma.offset) == (2 * PAGE, "r--s", PAGE)
            major, minor = (int(part, 16) for part in vma.device.split(":"))
            # Some file systems (btrfs, overlayfs) show stat(2) another device than this.
            assert os.makedev(major, minor) == device or major == 0


# ---- long lists ----


@pytest.fixture
def thousands() -> object:
    """Map 5,000 single pages that the kernel cannot merge."""
    protections = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
    maps = [mmap.mmap(-1, PAGE, prot=protections[i % 2]) for i in range(5000)]
    yield maps
    for made in maps:
        made.close()


@pytest.mark.usefixtures("thousands")
def test_thousands_of_mappings_are_all_listed() -> None:
    """A list far longer than one read of the file is whole, sorted and without overlap."""
    for found in (memfast.vmas(), stats.smaps()):
        assert len(found) >= 5000
        assert all(a.end <= b.start for a, b in itertools.pairwise(found))
        assert sum(row.end - row.start == PAGE for row in found) >= 5000 - 2
    assert all(row.size == row.end - row.start for row in stats.smaps())


@pytest.mark.usefixtures("thousands")
def test_a_process_that_dies_meanwhile_is_not_listed_in_part(rng: random.Random) -> None:
    """Killed at any time while it is read, it has all its mappings, none, or is not there."""
    whole = 0
    for _ in range(40):
        with support.forked(lambda: time.sleep(30)) as pid:
            killer = f"sleep {rng.uniform(0, 0.006)}; kill -KILL {pid}"
            with subprocess.Popen(["sh", "-c", killer]):
                while count := len(memfast.vmas(pid)):
                    assert count >= 5000
                    whole += 1
            assert stats.smaps(pid) == []
    assert whole > 0


def test_equal_values_are_one_object() -> None:
    """What rows have in common they share, and the scratch that made them is nobody's to see."""
    line = "{:x}-{:x} r-xp 00000000 fd:01 4711                       /usr/lib/libx.so\n"
    text = "".join(line.format(i << 12, (i + 1) << 12) for i in range(1, 1000)).encode()
    rows = _fast.vmas(text, Vma)
    assert [row.start >> 12 for row in rows] == list(range(1, 1000))
    assert all(row[1:] != rows[0][1:] for row in rows[1:])
    for field in ("perms", "offset", "device", "inode", "path"):
        assert len({id(getattr(row, field)) for row in rows}) == 1
    assert all(a.end is b.start for a, b in itertools.pairwise(rows))
    # A copy in Python knows nothing of the scratch, and so its hash is the right one.
    assert {hash(row) for row in rows} == {hash(Vma(*row)) for row in rows}
    assert pickle.loads(pickle.dumps(rows)) == rows


# ---- odd texts ----

HEAD = "1000-3000 rw-p 00000000 00:00 0 \n"


@pytest.mark.parametrize(
    ("printed", "path"),
    [
        ("", ""),
        ("                          [heap]", "[heap]"),
        ("                          [anon:name with : colon]", "[anon:name with : colon]"),
        ("                          anon_inode:[perf_event]", "anon_inode:[perf_event]"),
        ("                       /a b (deleted)", "/a b (deleted)"),
        ("                       /a\\012b", "/a\\012b"),
        ("                       //toolong", "//toolong"),
    ],
)
def test_a_mapping_s_line(printed: str, path: str) -> None:
    """A path is all that follows the padding, and nothing in it is taken for something else."""
    line = f"1000-3000 rw-s 0000f000 103:0a 7 {printed}\n".encode()
    expected = Vma(0x1000, 0x3000, "rw-s", 0xF000, "103:0a", 7, path)
    assert _fast.vmas(line, Vma) == [expected]
    assert [Vma(*row[:7]) for row in _fast.smaps(line + b"Rss: 1 kB\n", Smap)] == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "1000-3000\n",
        "1000-3000 rw-p\n",
        "1000-3000 rw-p 0000000",
        "1000-3000 rw-p 00000000 00:00 0                  /cut",
        "1000-3000 rw-p 00000000 00:00\n",
        "1000-3000 rw-p 00000000 0000 0 \n",
        "1000-3000 rw-p 00000000 00:00 x /x\n",
        "1000 3000 rw-p 00000000 00:00 0 \n",
        "-3000 rw-p 00000000 00:00 0 \n",
        "1000-3000 rw- 00000000 00:00 0 \n",
        "ABCD-EF00 rw-p 00000000 00:00 0 \n",
        "11111111111111111-3000 rw-p 00000000 00:00 0 \n",
    ],
)
def test_a_line_that_is_cut_or_of_another_shape_is_nobody_s(line: str) -> None:
    """It is passed over, and the figures behind it are not given to the mapping before."""
    assert _fast.vmas((HEAD + line).encode(), Vma) == _fast.vmas(HEAD.encode(), Vma)
    text = f"{HEAD}Rss: 4 kB\n{line}"
    if line.strip() and line.endswith("\n"):
        text += "Rss: 8 kB\nPss: 8 kB\n" + HEAD + "Rss: 12 kB\n"
        assert [(row.rss, row.pss) for row in _fast.smaps(text.encode(), Smap)] == [
            (4096, 0),
            (12288, 0),
        ]
    else:
        assert [row.rss for row in _fast.smaps(text.encode(), Smap)] == [4096]


def test_figures_of_other_kernels() -> None:
    """Missing, new, wide, empty, non-numeric lines: none is lost, none moves to another field."""
    text = (
        "Size:                  8 kB\n"
        "Rss:                   4 kB\n"
        "Pss:            1234567890 kB\n"
        "Private_Dirty:10373888 kB\n"
        "Swap:\n"
        "\n"
        "Name:           [stack of: x]\n"
        "ProtectionKey:         3\n"
        "Private_Hugetlb:       2 kB\n"
        "Private_HugetlbX:      7 kB\n"
        "Locked:              far kB\n"
        "THPeligible:    1\n"
        "VmFlags: \n"
    )
    (row,) = _fast.smaps((HEAD + text).encode(), Smap)
    assert (row.size, row.rss, row.pss) == (8192, 4096, 1234567890 * 1024)
    assert (row.private_dirty, row.private_hugetlb) == (10373888 * 1024, 2048)
    assert (row.mmu_page_size, row.swap, row.locked) == (0, 0, 0)
    assert row.thp_eligible is True
    assert row.vm_flags == ""
    assert row.other == (
        ("Swap", ""),
        ("Name", "[stack of: x]"),
        ("ProtectionKey", 3),
        ("Private_HugetlbX", 7168),
        ("Locked", "far kB"),
    )


def test_a_plain_tuple_is_refused() -> None:
    """The rows are copies of one scratch tuple, which a plain tuple's __new__ would not make."""
    for kind in (tuple, list, 1):
        with pytest.raises(TypeError):
            _fast.vmas(HEAD.encode(), kind)  # type: ignore[type-var]


# ---- who may ask, and of whom ----


def test_our_own_list_is_the_default() -> None:
    """None and our own pid mean this process."""
    own = {(vma.start, vma.path) for vma in memfast.vmas() if vma.path.startswith("/")}
    assert own == {(v.start, v.path) for v in memfast.vmas(os.getpid()) if v.path.startswith("/")}
    assert own == {(s.start, s.path) for s in stats.smaps() if s.path.startswith("/")}
    assert any("python" in path or "_core" in path for _, path in own)


def test_kernel_threads_and_zombies_have_no_mappings() -> None:
    """Where there is no memory the list is empty, not an error."""
    threads = [p.pid for p in psutil.process_iter() if p.pid != 2 and p.ppid() == 2][:1]
    with subprocess.Popen(["true"]) as child:
        support.until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        for pid in (child.pid, *threads):
            for call in (memfast.vmas, stats.smaps):
                try:
                    assert call(pid) == []
                except memfast.AccessError:
                    assert pid != child.pid or os.geteuid() != 0


@pytest.mark.parametrize("call", [memfast.vmas, stats.smaps])
def test_a_process_that_is_not_there(call: object) -> None:
    """A pid that nobody has is ProcessLookupError, a negative one ValueError, a text TypeError."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    for pid in (child.pid, 0, 1 << 22, 1 << 70):
        with pytest.raises(ProcessLookupError) as caught:
            call(pid)  # type: ignore[operator]
        assert caught.value.errno is not None
    with pytest.raises(ValueError, match="pid -1"):
        call(-1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        call("1")  # type: ignore[operator]


@support.need_root
def test_another_user_s_mappings_name_the_rule() -> None:
    """Who may not trace a process is told so."""
    pid = os.getpid()

    def other() -> None:
        os.setresuid(65534, 65534, 65534)
        for call in (memfast.vmas, stats.smaps):
            for target in (pid, 1):
                with pytest.raises(memfast.AccessError, match="PTRACE_MODE_READ"):
                    call(target)

    with support.forked(other) as child:
        assert support.exit_status(child) == 0


@support.need_root
def test_without_proc_the_reason_is_said() -> None:
    """Where /proc is not mounted the error says that, and not that the process is gone."""
    code = """
import memfast.stats
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
for call in (memfast.stats.vmas, memfast.stats.smaps, lambda: memfast.stats.vmas(1)):
    try:
        call()
    except memfast.NotSupportedError as error:
        print("not mounted" in str(error), error.errno is not None)
"""
    assert support.in_namespace("m", code).split() == ["True"] * 6
