"""How much more memory this process may take: the least of host and every cgroup above it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = support.need_root

MIB = 1 << 20
NO_LIMIT_V1 = 9223372036854771712
CODE = """
from memfast._core import ffi, lib
room = ffi.new("uint64_t *")
assert lib.mf_room_bytes(room) == 0
print(room[0])
"""
MEMINFO = "MemTotal: 9000000 kB\nMemFree: 5 kB\nMemAvailable:  8192 kB\nSwapFree: 1024 kB\n"
HOST = 9 * MIB


def room(
    folder: Path,
    *,
    groups: str = "",
    mounts: str = "",
    files: Mapping[str, object] | None = None,
    meminfo: str = MEMINFO,
) -> int:
    """Ask in a world whose /proc says just this; *files* are below the folder."""
    for path, content in (files or {}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{content}\n")
    before = ""
    for name, text in (("cgroup", groups), ("mountinfo", mounts.replace("@", str(folder)))):
        (folder / name).write_text(text)
        before += f"mount --bind '{folder / name}' /proc/$$/{name}\n"
    (folder / "meminfo").write_text(meminfo)
    before += f"mount --bind '{folder / 'meminfo'}' /proc/meminfo"
    return int(json.loads(support.in_namespace("m", CODE, before=before)))


V2 = "30 24 0:26 / @/cg rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 / @/v1 rw - cgroup cgroup rw,memory\n"
OTHER_V1 = "34 31 0:31 / @/wrong rw - cgroup cgroup rw,cpu,memoryless\n"


def test_without_cgroups_the_host_is_the_bound(tmp_path: Path) -> None:
    """MemAvailable and free swap, in bytes."""
    assert room(tmp_path) == HOST


def test_what_cannot_be_read_is_no_bound(tmp_path: Path) -> None:
    """Without MemAvailable and cgroup files nothing bounds; files that are missing neither."""
    assert room(tmp_path, meminfo="MemTotal: 1 kB\n") == 2**64 - 1
    assert room(tmp_path, groups="0::/a\n", mounts=V2) == HOST


@pytest.mark.parametrize("level", ["a/b", "a", "."])
def test_the_least_of_all_levels_binds(tmp_path: Path, level: str) -> None:
    """A v2 limit counts wherever it is: at our cgroup, between, or at the visible root."""
    files = {f"cg/{at}/memory.max": "max" for at in ("a/b", "a")}
    files |= {f"cg/{at}/memory.current": str(MIB) for at in ("a/b", "a")}
    files |= {
        f"cg/{level}/memory.max": str(3 * MIB),
        f"cg/{level}/memory.current": str(MIB),
        f"cg/{level}/memory.swap.max": "0",
        f"cg/{level}/memory.swap.current": "0",
    }
    assert room(tmp_path, groups="0::/a/b\n", mounts=V2, files=files) == 2 * MIB


def test_page_cache_of_the_group_can_be_had(tmp_path: Path) -> None:
    """What the group's clean file pages take is not taken; keys come in any order."""
    files = {
        "cg/a/memory.max": 4 * MIB,
        "cg/a/memory.current": 4 * MIB,
        "cg/a/memory.swap.max": 0,
        "cg/a/memory.swap.current": 0,
        "cg/a/memory.stat": f"anon 7\ninactive_file {MIB}\nfile 9\nactive_file {MIB // 2}",
    }
    assert room(tmp_path, groups="0::/a\n", mounts=V2, files=files) == MIB * 3 // 2
    # Never more than is used at all, whatever a torn reading says.
    files["cg/a/memory.stat"] = f"inactive_file {90 * MIB}"
    assert room(tmp_path, groups="0::/a\n", mounts=V2, files=files) == 4 * MIB


def test_swap_of_the_group_adds_to_it(tmp_path: Path) -> None:
    """Free swap counts as far as the group may use it."""
    files = {"cg/a/memory.max": 2 * MIB, "cg/a/memory.current": 3 * MIB}
    assert room(tmp_path, groups="0::/a\n", mounts=V2, files=files) == MIB
    files |= {"cg/a/memory.swap.max": MIB, "cg/a/memory.swap.current": MIB * 3 // 4}
    assert room(tmp_path, groups="0::/a\n", mounts=V2, files=files) == MIB // 4


def test_version_1_beside_version_2(tmp_path: Path) -> None:
    """In a hybrid world the v1 memory controller binds, with its own files and sentinels."""
    groups = "4:cpu,memory:/a\n1:name=systemd:/b\n0::/\n"
    files: dict[str, object] = {
        "v1/a/memory.limit_in_bytes": NO_LIMIT_V1,
        "v1/a/memory.usage_in_bytes": MIB,
        "v1/memory.limit_in_bytes": NO_LIMIT_V1,
        "v1/memory.usage_in_bytes": MIB,
        "v1/a/memory.stat": f"cache 5\nhierarchical_memory_limit {NO_LIMIT_V1}",
        "cg/cgroup.procs": 1,
    }
    mounts = OTHER_V1 + V1 + V2
    assert room(tmp_path, groups=groups, mounts=mounts, files=files) == HOST
    # A limit outside of our view shows in memory.stat alone.
    files["v1/a/memory.stat"] = f"hierarchical_memory_limit {4 * MIB}\ntotal_inactive_file 4096"
    assert room(tmp_path, groups=groups, mounts=mounts, files=files) == 4 * MIB + 4096
    files |= {"v1/memory.limit_in_bytes": 2 * MIB}
    assert room(tmp_path, groups=groups, mounts=mounts, files=files) == 2 * MIB
    files |= {
        "v1/memory.memsw.limit_in_bytes": 2 * MIB,
        "v1/memory.memsw.usage_in_bytes": 2 * MIB - 5,
    }
    assert room(tmp_path, groups=groups, mounts=mounts, files=files) == 5


@pytest.mark.parametrize(
    ("root", "own"),
    [("/docker/x", "/docker/x/a"), ("/", "/a"), ("/..", "/a"), ("/docker/x", "/elsewhere")],
)
def test_a_container_s_mount_shows_only_its_part(tmp_path: Path, root: str, own: str) -> None:
    """The mount's own root is cut off our path; a path that it does not show leaves its root."""
    files = {}
    for at in ("cg/a/", "cg/"):
        files |= {f"{at}memory.max": 2 * MIB, f"{at}memory.current": MIB}
        files |= {f"{at}memory.swap.max": 0, f"{at}memory.swap.current": 0}
    files["cg/memory.max"] = 5 * MIB
    mounts = V2.replace(" / ", f" {root} ")
    shown = own.startswith(root) or root == "/"
    expected = MIB if shown else 4 * MIB
    assert room(tmp_path, groups=f"0::{own}\n", mounts=mounts, files=files) == expected


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    r"""mountinfo writes a space as \040."""
    files = {"c g/memory.max": 2 * MIB, "c g/memory.current": 2 * MIB}
    mounts = V2.replace("@/cg", "@/c\\040g")
    assert room(tmp_path, groups="0::/\n", mounts=mounts, files=files) == MIB


def test_long_lines_and_nonsense_are_passed_over(tmp_path: Path) -> None:
    """Lines that fit no buffer, or are no such line, hide nothing that comes after them."""
    files = {"cg/memory.max": 0, "cg/memory.current": 0}
    mounts = "x" * 30000 + "\n\n - \n" + "1 2 3 " + "y" * 5000 + " - cgroup2\n" + V2
    groups = "z" * 20000 + "\n:\n::\nq\n0::/\n"
    assert room(tmp_path, groups=groups, mounts=mounts, files=files) == MIB


def test_the_real_world_gives_a_figure() -> None:
    """On this machine the room is positive and no more than memory and swap together."""
    from memfast._core import ffi, lib

    found = ffi.new("uint64_t *")
    assert lib.mf_room_bytes(found) == 0
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = sum(int(lines[key].split()[0]) for key in ("MemTotal", "SwapTotal")) * 1024
    assert 0 < found[0] <= total
