"""The machine's memory: equal to what the kernel, free(1) and psutil say, odd kernels included."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import psutil
import pytest
import support

import memfast
from memfast import stats

ROUNDS = 50  # tries until two readings of a live machine agree


def lines(**kib: int) -> str:
    """Return a meminfo with these keys; 64-bit, healthy, otherwise."""
    whole = {
        "MemTotal": 8_000_000,
        "MemFree": 1_000_000,
        "MemAvailable": 5_000_000,
        "Buffers": 200_000,
        "Cached": 3_000_000,
        "Active": 2_500_000,
        "Inactive": 1_500_000,
        "Active(file)": 1_200_000,
        "Inactive(file)": 1_100_000,
        "SwapTotal": 2_000_000,
        "SwapFree": 1_500_000,
        "Shmem": 300_000,
        "Slab": 400_000,
        "SReclaimable": 250_000,
        "CommitLimit": 6_000_000,
        "Committed_AS": 4_000_000,
    } | kib
    return "".join(f"{key + ':':15} {value:8d} kB\n" for key, value in whole.items() if value >= 0)


# name -> the text of a /proc/meminfo that some system has had
ODD = {
    "healthy": lines(),
    "before 3.14": lines(MemAvailable=-1),
    "available is 0": lines(MemAvailable=0),
    "lxcfs: more available than there is": lines(MemAvailable=9_000_000),
    "more swap free than there is": lines(SwapTotal=1_000, SwapFree=2_000),
    "no swap": lines(SwapTotal=0, SwapFree=0),
    "4 PiB": lines(MemTotal=4 << 40, MemFree=3 << 40, MemAvailable=3 << 40),
    "a key as long as its column": "ShadowCallStack:10373888 kB\n" + lines(),
    "no kB": lines().replace("Shmem:            300000 kB", "Shmem:            300000"),
    "keys of tomorrow": "Quantum:  77 kB\n" + lines() + "HugePages_Odd:   3\nAnswer(new): 42 kB\n",
    "no slab": lines(Slab=-1, SReclaimable=-1),
    "ends in the middle": lines().partition("Slab:")[0] + "Slab:   4",
    "little of it": "MemTotal: 1000 kB\nMemFree: 9 kB\nBuffers: 10 kB\nCached: 30 kB\n",
    "small words": lines(MemTotal=100, MemFree=50, MemAvailable=57),
    "a tie in percent": lines(MemTotal=16000, MemFree=10, MemAvailable=15000),
}

ODDITIES = pytest.mark.parametrize("text", ODD.values(), ids=ODD)


def agreeing(first, second):  # type: ignore[no-untyped-def]
    """Return both answers of a moment in which the machine stood still."""
    for _ in range(ROUNDS):
        before = first()
        answer = second()
        if first() == before:
            return before, answer
    pytest.skip("the machine never stood still between two readings")


def proc_meminfo() -> dict[str, int]:
    """Parse /proc/meminfo in the plainest way."""
    table = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, value = line.split(":")
        words = value.split()
        table[key] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return table


def test_meminfo_has_every_key_of_the_kernel() -> None:
    """Each line of the file, under its own name, in bytes; and no other."""
    expected, answer = agreeing(proc_meminfo, lambda: dict(memfast.meminfo()))
    assert answer == expected
    assert len(answer) > 40
    assert list(memfast.meminfo()) == list(expected)


def test_sysinfo_says_what_meminfo_says() -> None:
    """sysinfo(2) and /proc/meminfo are one kernel's figures."""

    def of_meminfo() -> tuple[int, ...]:
        info = memfast.meminfo()
        keys = ("MemTotal", "MemFree", "Shmem", "Buffers", "SwapTotal", "SwapFree")
        return tuple(info[key] for key in keys)

    def of_sysinfo() -> tuple[int, ...]:
        i = memfast.sysinfo()
        return i.totalram, i.freeram, i.sharedram, i.bufferram, i.totalswap, i.freeswap

    expected, answer = agreeing(of_meminfo, of_sysinfo)
    assert answer == expected


def test_sysinfo_knows_uptime_loads_and_tasks() -> None:
    """What /proc/uptime and /proc/loadavg print, to their two decimals."""
    for _ in range(ROUNDS):
        uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
        words = Path("/proc/loadavg").read_text().split()
        info = memfast.sysinfo()
        same = tuple(f"{load:.2f}" for load in info.loads) == tuple(words[:3])
        late = info.uptime - uptime  # a second begun counts as one
        if same and info.procs == int(words[3].split("/")[1]) and late in (0, 1):
            return
    raise AssertionError(f"{info} is not {words}, up for {uptime} s")


def test_a_sysinfo_is_a_record() -> None:
    """It has names, cannot be changed, compares, hashes, pickles, and refuses foreign bytes."""
    info = memfast.sysinfo()
    assert list(info._asdict()) == [
        *("uptime", "loads", "totalram", "freeram", "sharedram", "bufferram"),
        *("totalswap", "freeswap", "procs"),
    ]
    assert f"'totalram': {info.totalram}" in repr(info)
    with pytest.raises(AttributeError):
        info.totalram = 1  # type: ignore[misc]
    twin = pickle.loads(pickle.dumps(info))
    assert twin == info == copy.copy(info)
    assert hash(twin) == hash(info)
    assert info != 1
    for wrong in (b"", b"x" * 8):
        with pytest.raises(ValueError, match="not the bytes of a SysInfo"):
            type(info)(wrong)


def test_attributes_are_the_keys_in_snake_case() -> None:
    """Every key has its attribute; what this kernel lacks is an AttributeError."""
    info = memfast.meminfo()
    assert info.mem_available == info["MemAvailable"]
    assert info.active_anon == info["Active(anon)"]
    assert info.hugepages_total == info.huge_pages_total == info["HugePages_Total"]
    assert info.sreclaimable == info.s_reclaimable == info["SReclaimable"]
    assert {name: getattr(info, name) for name in info._asdict()} == info._asdict()
    assert len(info._asdict()) == len(info)
    assert "mem_available" in dir(info)
    with pytest.raises(AttributeError, match="no 'mem_of_mars'"):
        _ = info.mem_of_mars
    with pytest.raises(KeyError):
        _ = info["MemOfMars"]
    with pytest.raises(KeyError):
        _ = info["Mem"]
    assert info.get("MemOfMars") is None
    assert 7 not in info
    assert "\udcff" not in info
    odd = stats.MemInfo(b"A\xff: 3 kB\n")
    assert odd["A\udcff"] == dict(odd)["A\udcff"] == 3072


def test_a_key_costs_a_key() -> None:
    """Looking at one figure parses no other; looking at all parses the text once."""
    info = memfast.meminfo()
    assert info["MemTotal"] == memfast.sysinfo().totalram
    assert info._numbers is None
    assert dict(info)["MemTotal"] == info["MemTotal"]
    assert info._numbers is not None


def test_a_meminfo_is_a_reading() -> None:
    """It does not change any more, and survives pickle and copy."""
    info = memfast.meminfo()
    before = dict(info)
    ballast = bytearray(8 << 20)
    assert dict(info) == before
    assert pickle.loads(pickle.dumps(info)) == info == copy.copy(info)
    assert hash(info) == hash(copy.copy(info))
    assert ballast is not None


def test_free_and_virtual_memory_are_live() -> None:
    """psutil and ours agree while the machine stands still."""
    expected, answer = agreeing(psutil.virtual_memory, memfast.virtual_memory)
    assert answer == tuple(expected)
    assert answer._fields == expected._fields
    assert answer._asdict() == expected._asdict()
    expected, answer = agreeing(psutil.swap_memory, memfast.swap_memory)
    assert tuple(answer) == tuple(expected)
    assert answer._fields == expected._fields


COMPARE = """
import json, sys, warnings
import psutil, memfast
from memfast import stats
warnings.simplefilter("ignore")
psutil.PROCFS_PATH = sys.argv[1]
free = stats.free()
print(json.dumps({
    "table": dict(memfast.meminfo()),
    "mem": free.mem, "swap": free.swap, "commit": [*free.commit, free.commit.free],
    "virtual": memfast.virtual_memory(), "psutil": psutil.virtual_memory(),
    "swap_memory": memfast.swap_memory(), "psutil_swap": psutil.swap_memory(),
}))
"""


def seen_with(text: str, tmp_path: Path) -> dict[str, object]:
    """Return what a new process sees whose /proc/meminfo is *text*."""
    (tmp_path / "meminfo").write_text(text)
    # psutil needs the blank that the kernel leaves out where a key is too long (its #2809).
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(re.sub(r":(\d)", r": \1", text))
    for name in ("vmstat", "zoneinfo", "stat"):
        (tmp_path / "proc" / name).symlink_to(f"/proc/{name}")
    mount = f"mount --bind {tmp_path}/meminfo /proc/meminfo"
    answer: dict[str, object] = json.loads(
        support.in_namespace("m", COMPARE, tmp_path / "proc", before=mount)
    )
    return answer


@ODDITIES
def test_virtual_memory_is_psutils_on_odd_kernels(text: str, tmp_path: Path) -> None:
    """All eleven figures, the estimate of what is available and the rounded percent included."""
    seen = seen_with(text, tmp_path)
    assert seen["virtual"] == seen["psutil"]


@ODDITIES
def test_swap_memory_is_psutils_on_odd_kernels(text: str, tmp_path: Path) -> None:
    """All six; but where more swap is free than there is, none is used, and not a negative size."""
    seen = seen_with(text, tmp_path)
    if seen["psutil_swap"][1] < 0:  # type: ignore[index]
        assert seen["swap_memory"][1:4] == [0, seen["psutil_swap"][2], 0.0]  # type: ignore[index]
    else:
        assert seen["swap_memory"] == seen["psutil_swap"]


@ODDITIES
def test_free_is_by_the_formulas_of_procps(text: str, tmp_path: Path) -> None:
    """used = total - available; available never more than there is; cache includes slab."""
    table: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        table[key] = int(value.split()[0]) * 1024
    seen = seen_with(text, tmp_path)
    assert set(seen["table"]) == set(table)  # type: ignore[call-overload]
    get = lambda key: table.get(key, 0)  # noqa: E731
    total, free, available = get("MemTotal"), get("MemFree"), get("MemAvailable")
    if not 0 < available <= total:
        available = free
    cache = get("Cached") + get("SReclaimable")
    used = total - available
    expected = [total, used, free, get("Shmem"), get("Buffers"), cache, available]
    assert seen["mem"] == expected
    swap_used = max(0, get("SwapTotal") - get("SwapFree"))
    assert seen["swap"] == [get("SwapTotal"), swap_used, get("SwapFree")]
    limit, committed = get("CommitLimit"), get("Committed_AS")
    assert seen["commit"] == [limit, committed, limit - committed]


def test_a_meminfo_without_free_memory_is_told_all_the_same(tmp_path: Path) -> None:
    """Cut to a few lines: what is there counts, and no exception of the parser's comes out."""
    cut = tmp_path / "meminfo"
    cut.write_text(
        "MemTotal: 1000 kB\nSReclaimable: 3 kB\nActive(file): 3 kB\nInactive(file): 4 kB\n"
    )
    code = "import memfast; print(memfast.virtual_memory().total, memfast.stats.free().mem.total)"
    answer = support.in_namespace("m", code, before=f"mount --bind {cut} /proc/meminfo")
    assert answer.split() == ["1024000", "1024000"]


def test_an_empty_meminfo_is_an_error(tmp_path: Path) -> None:
    """Not a machine without memory."""
    code = """
import errno
from memfast import stats
for call in stats.meminfo, stats.free, stats.virtual_memory, stats.swap_memory:
    try:
        call()
    except OSError as error:
        assert error.errno == errno.EIO, error
    else:
        raise SystemExit(f"{call} said nothing")
"""
    empty = tmp_path / "meminfo"
    empty.touch()
    support.in_namespace("m", code, before=f"mount --bind {empty} /proc/meminfo")


def test_a_proc_without_meminfo_is_not_supported() -> None:
    """proc mounted with subset=pid: told so, and sysinfo() still works."""
    code = """
import errno
import memfast
from memfast import stats
for call in stats.meminfo, stats.free, stats.virtual_memory, stats.swap_memory, stats.vmstat:
    try:
        call()
    except memfast.NotSupportedError as error:
        assert error.errno == errno.ENOENT and "subset=pid" in str(error), error
    else:
        raise SystemExit(f"{call} said nothing")
assert stats.sysinfo().totalram > 0
"""
    support.in_namespace("m", code, before="mount -t proc -o subset=pid proc /proc")
    assert stats.sysinfo().totalram > 0
