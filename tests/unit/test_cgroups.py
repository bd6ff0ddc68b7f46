"""Memory cgroups: trees of v1 and v2 as they occur, and the kernel's own."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import support

from memfast import cgroups
from memfast.cgroups import Cgroup, CgroupLevel

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1 << 20
NO_LIMIT_V1 = 9223372036854771712
V2 = "30 24 0:26 / /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 / /v1 rw - cgroup cgroup rw,memory\n"
OTHERS = (
    "22 1 8:1 / / rw - ext4 /dev/root rw\n"
    "34 31 0:31 / /wrong rw - cgroup cgroup rw,cpu,memoryless\n"
    "nonsense\n- -\n"
)


def tree(
    folder: Path,
    *,
    groups: str,
    mounts: str = "",
    files: Mapping[str, Mapping[str, object]] | None = None,
) -> Cgroup:
    """Ask in a tree of files: a group's directory -> its files without "memory."."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    (folder / "proc/self/mountinfo").write_text(OTHERS + mounts)
    for group, contents in (files or {}).items():
        (folder / group[1:]).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / group[1:] / f"memory.{name}").write_text(f"{content}\n")
    return cgroups._cgroup(None, str(folder))


def v2(limit: object, usage: object, stat: str = "", **more: object) -> dict[str, object]:
    return {"max": limit, "current": usage, "stat": stat, **more}


def v1(limit: object, usage: object, stat: str = "", **more: object) -> dict[str, object]:
    return {"limit_in_bytes": limit, "usage_in_bytes": usage, "stat": stat, **more}


# ---- version 2 ----


def test_every_figure_of_a_v2_group(tmp_path: Path) -> None:
    """Limits, usage and the terms of the working set, each from its own file or key."""
    stat = "file 9\nactive_file 5\nnew_key 1\ninactive_file 30\nslab_reclaimable 7\nslab 8"
    own = v2(100, 80, stat, high=90, **{"swap.max": 50, "swap.current": 3})
    found = tree(tmp_path, groups="0::/a\n", mounts=V2, files={"/cg/a": own})
    level = CgroupLevel(
        path="/cg/a",
        limit=100,
        high=90,
        usage=80,
        working_set=50,
        inactive_file=30,
        active_file=5,
        slab_reclaimable=7,
        swap_limit=50,
        swap_usage=3,
        headroom=50,
    )
    assert found == Cgroup("v2", "/a", "/cg", 100, 50, (level,))
    assert found.binding == level


def test_max_is_no_limit(tmp_path: Path) -> None:
    """The word "max" bounds nothing; nor does a number that no machine has."""
    own = v2("max", 80, high="max", **{"swap.max": "max"})
    found = tree(
        tmp_path, groups="0::/a/b\n", mounts=V2, files={"/cg/a/b": own, "/cg/a": v2(1 << 62, 90)}
    )
    assert (found.limit, found.available, found.binding) == (None, None, None)
    assert [(level.limit, level.high, level.swap_limit) for level in found.levels] == [
        (None, None, None)
    ] * 2
    assert [level.usage for level in found.levels] == [80, 90]


def test_the_limit_and_the_headroom_may_be_of_different_levels(tmp_path: Path) -> None:
    """The least limit is one group's, the least room another's; high is told, but bounds not."""
    files = {
        "/cg/a/b/c": v2("max", 10, high=1),
        "/cg/a/b": v2(100, 20),
        "/cg/a": v2(120, 115, "inactive_file 5"),
        "/cg": {"stat": "inactive_file 1"},  # the true root has no limit and no usage
    }
    found = tree(tmp_path, groups="0::/a/b/c\n", mounts=V2, files=files)
    assert [level.path for level in found.levels] == ["/cg/a/b/c", "/cg/a/b", "/cg/a"]
    assert [level.headroom for level in found.levels] == [None, 80, 10]
    assert (found.limit, found.available) == (100, 10)
    assert found.binding is not None
    assert found.binding.path == "/cg/a/b"


def test_a_group_over_its_limit_has_no_room(tmp_path: Path) -> None:
    """Headroom and working set never go below 0, however the counters race."""
    files = {"/cg/a": v2(100, 130, "inactive_file 10"), "/cg": v2(200, 5, "inactive_file 9")}
    found = tree(tmp_path, groups="0::/a\n", mounts=V2, files=files)
    assert [(level.working_set, level.headroom) for level in found.levels] == [(120, 0), (0, 200)]
    assert found.available == 0


def test_groups_without_the_controller_are_passed_over(tmp_path: Path) -> None:
    """Where memory is not enabled the group's parents bind."""
    files: dict[str, dict[str, object]] = {"/cg/a/b": {}, "/cg/a": v2(100, 1)}
    found = tree(tmp_path, groups="0::/a/b\n", mounts=V2, files=files)
    assert [level.path for level in found.levels] == ["/cg/a"]
    assert found.limit == 100


# ---- version 1 ----


def test_every_figure_of_a_v1_group(tmp_path: Path) -> None:
    """What is below counts too (total_*); swap is what the limit of both leaves for it."""
    stat = (
        "cache 1\ninactive_file 2\nactive_file 2\nhierarchical_memory_limit 100\n"
        "total_inactive_file 30\ntotal_active_file 5\ntotal_swap 4"
    )
    own = v1(100, 80, stat, **{"memsw.limit_in_bytes": 160, "use_hierarchy": 1})
    found = tree(tmp_path, groups="4:cpu,memory:/a\n", mounts=V1, files={"/v1/a": own})
    level = CgroupLevel("/v1/a", 100, None, 80, 50, 30, 5, None, 60, 4, 50)
    assert found == Cgroup("v1", "/a", "/v1", 100, 50, (level,))


@pytest.mark.parametrize("sentinel", [NO_LIMIT_V1, 9223372036854710272, 9223372036854775807])
def test_the_sentinels_of_v1_are_no_limit(tmp_path: Path, sentinel: int) -> None:
    """LONG_MAX in pages of 4 KiB, of 64 KiB, and as old kernels had it."""
    own = v1(sentinel, 80, f"hierarchical_memory_limit {sentinel}")
    own["memsw.limit_in_bytes"] = sentinel
    found = tree(tmp_path, groups="4:memory:/\n", mounts=V1, files={"/v1": own})
    assert found.limit is found.available is found.levels[0].swap_limit is None


def test_a_limit_out_of_sight_counts(tmp_path: Path) -> None:
    """v1 says the least limit of all above, of those too that a container's mount does not show."""
    stat = "hierarchical_memory_limit 70\ntotal_inactive_file 10"
    found = tree(
        tmp_path,
        groups="4:memory:/docker/c\n0::/\n",
        mounts=V1.replace(" / /v1", " /docker/c /v1") + V2,
        files={"/v1": v1(NO_LIMIT_V1, 30, stat)},
    )
    assert (found.version, found.limit, found.available) == ("hybrid", 70, 50)
    assert found.binding is None
    assert found.levels[0].limit is None


def test_a_parent_that_does_not_count_its_children_does_not_bind(tmp_path: Path) -> None:
    """Before Linux 5.11 use_hierarchy=0 cut a v1 group off those below it."""
    files = {
        "/v1/a/b": v1(100, 1, use_hierarchy=1),
        "/v1/a": v1(50, 1, use_hierarchy=0),
        "/v1": v1(10, 1, use_hierarchy=1),
    }
    found = tree(tmp_path, groups="4:memory:/a/b\n", mounts=V1, files=files)
    assert [level.path for level in found.levels] == ["/v1/a/b"]
    assert found.limit == 100


def test_beside_v1_an_empty_v2_says_nothing(tmp_path: Path) -> None:
    """In a hybrid world memory is where its controller is, whatever the order of the lines."""
    files = {"/v1/b": v1(100, 1), "/cg/a": v2(10, 1)}
    groups = "0::/a\n4:cpu,memory:/b\n9:name=memory:/x\n"
    found = tree(tmp_path, groups=groups, mounts=V2 + V1, files=files)
    assert (found.version, found.path, found.limit) == ("hybrid", "/b", 100)


def test_a_v1_controller_that_is_not_mounted_is_not_looked_for_in_v2(tmp_path: Path) -> None:
    """Then nothing is known to bind, and that is no error."""
    files = {"/cg/a": v2(10, 1)}
    found = tree(tmp_path, groups="4:memory:/b\n0::/a\n", mounts=V2, files=files)
    assert found == Cgroup(None, "/b", "", None, None, ())


# ---- where the group is ----


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/", "/a/b", "/cg/a/b"),
        ("/", "/", "/cg"),  # a cgroup namespace with a mount of its own
        ("/a", "/a/b", "/cg/b"),
        ("/a/b", "/a/b", "/cg"),
        ("/..", "/../a", "/cg/a"),
        ("/a", "/ab", "/cg"),  # not below the mount: its root stands for the group
        ("/a", "/x/y", "/cg"),
        ("/", "/a/gone (deleted)", "/cg/a"),  # the nearest that is there
        ("/", "/docker/c", "/cg"),
        ("/", "/a:b", "/cg/a:b"),
        ("/", "/../other", None),  # outside of our namespace: nothing that we see binds it
    ],
)
def test_the_path_is_found_below_the_mount(
    tmp_path: Path, root: str, path: str, expected: str | None
) -> None:
    """The mount's root is cut off; what the mount does not show is stood for by a parent."""
    files = {
        place: v2(100, 1)
        for place in ("/cg", "/cg/a", "/cg/a/b", "/cg/b", "/cg/a:b", "/cg/other")
        if expected is None or len(place) <= len(expected)
    }
    mounts = V2.replace(" / /cg", f" {root} /cg")
    found = tree(tmp_path, groups=f"0::{path}\n", mounts=mounts, files=files)
    assert (found.levels[0].path if found.levels else None) == expected
    assert (found.path, found.mount) == (path, "/cg")


def test_of_several_mounts_the_one_that_shows_the_group_counts(tmp_path: Path) -> None:
    """A bind mount of another part does not hide where the group is."""
    mounts = V2.replace(" / /cg", " /x /part") + V2
    files = {"/part": v2(5, 1), "/cg/a": v2(100, 1)}
    found = tree(tmp_path, groups="0::/a\n", mounts=mounts, files=files)
    assert found.levels[0].path == "/cg/a"
    assert found.limit == 100


def test_escapes_in_mountinfo(tmp_path: Path) -> None:
    r"""A space is \040 there, a tab \011, a newline \012 and a backslash \134."""
    mounts = V2.replace("/cg", "/c\\040g\\011\\012\\134040")
    point = "/c g\t\n\\040"
    found = tree(tmp_path, groups="0::/a b\n", mounts=mounts, files={f"{point}/a b": v2(7, 1)})
    assert (found.mount, found.levels[0].path, found.limit) == (point, f"{point}/a b", 7)


def test_without_cgroups_nothing_binds(tmp_path: Path) -> None:
    """A kernel without them, and a host that mounts none, are no errors."""
    nothing = Cgroup(None, "", "", None, None, ())
    assert tree(tmp_path, groups="") == nothing
    (tmp_path / "proc/self/cgroup").unlink()
    assert cgroups._cgroup(None, str(tmp_path)) == nothing


# ---- the kernel's own ----


def test_an_ancestor_s_limit_binds_a_process_of_the_kernel_s(
    own_cgroup: CgroupLevel, nested_cgroups: tuple[Path, Path]
) -> None:
    """A child in a group without limit below one with: 64 MiB, less what it takes."""
    outer, inner = nested_cgroups

    def take() -> None:
        (inner / "cgroup.procs").write_text("0")
        taken = bytearray(16 * MIB)
        taken[::4096] = b"x" * len(taken[::4096])
        time.sleep(60)

    with support.forked(take) as pid:
        support.until(
            lambda: (
                cgroups.cgroup(pid).levels[0].path == str(inner)
                and cgroups.cgroup(pid).levels[0].usage > 16 * MIB
            )
        )
        found = cgroups.cgroup(pid)
        inside, around, above = found.levels[:3]
        assert (inside.path, around.path, above.path) == (str(inner), str(outer), own_cgroup.path)
        assert (inside.limit, around.limit) == (None, 64 * MIB)
        assert found.limit == 64 * MIB
        assert found.binding == around
        assert 16 * MIB < around.working_set <= around.usage < 64 * MIB
        assert around.headroom == 64 * MIB - around.working_set
        assert found.available == min(
            level.headroom for level in found.levels if level.headroom is not None
        )
    assert cgroups.cgroup().limit != 64 * MIB


def test_a_process_that_is_not_there() -> None:
    """A pid that nobody has is ProcessLookupError, a negative one ValueError."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    for pid in (child.pid, 0, 1 << 22, 1 << 70):
        with pytest.raises(ProcessLookupError) as caught:
            cgroups.cgroup(pid)
        assert caught.value.errno == errno.ESRCH
    with pytest.raises(ValueError, match="pid -1"):
        cgroups.cgroup(-1)
    with pytest.raises(TypeError):
        cgroups.cgroup("1")  # type: ignore[arg-type]


def test_our_own_pid_and_a_zombie() -> None:
    """None means this process; a zombie has a cgroup still, or no more, but is no error."""
    assert cgroups.cgroup(os.getpid()).path == cgroups.cgroup().path
    with subprocess.Popen(["true"]) as child:
        support.until(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
        assert cgroups.cgroup(child.pid).path.startswith("/")


@support.need_root
def test_without_proc_the_reason_is_said() -> None:
    """Where /proc is not mounted the error says that, and not that the process is gone."""
    code = """
import memfast
from memfast import cgroups
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
for pid in (None, 1):
    try:
        cgroups.cgroup(pid)
    except memfast.NotSupportedError as error:
        print("not mounted" in str(error))
"""
    assert support.in_namespace("m", code).split() == ["True"] * 2


def test_a_cgroup_namespace_with_a_mount_of_its_own(nested_cgroups: tuple[Path, Path]) -> None:
    """In a container the path is "/" and the mount shows our group alone, limit and all."""
    outer, _ = nested_cgroups
    version = cgroups.cgroup().version
    mount = "cgroup2 none" if version == "v2" else "cgroup -o memory none"
    before = f"mkdir /dev/shm/cg; mount -t tmpfs x /dev/shm/cg; mount -t {mount} /dev/shm/cg"
    code = "from memfast import cgroups; found = cgroups.cgroup()\n"
    code += "print(found.path, found.mount, found.limit, len(found.levels))"

    def inside() -> None:
        (outer / "cgroup.procs").write_text("0")
        answer = support.in_namespace("Cm", code, before=before)
        assert answer.split() == ["/", "/dev/shm/cg", str(64 * MIB), "1"]

    with support.forked(inside) as child:
        assert support.exit_status(child) == 0
