"""NUMA nodes, zones and huge pages: a machine of two nodes in files, and this one."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import support

import memfast
from memfast import nodes
from memfast.nodes import HugePagePool, Node, TransparentHugePages, Zone

PAGE = mmap.PAGESIZE
SYS_NODES, SYS_POOLS = "sys/devices/system/node", "sys/kernel/mm/hugepages"
SYS_TRANSPARENT = "sys/kernel/mm/transparent_hugepage"


@pytest.fixture(scope="module", autouse=True)
def files_that_stay_open() -> None:
    """Open what zones() keeps open, so that no test is blamed for it."""
    nodes.zones()


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


# ---- NUMA nodes ----


def test_two_nodes_that_are_not_neighbours(tmp_path: Path) -> None:
    """Each figure of each node, in bytes; distances by node id, CPUs one by one, 10 after 2."""
    numastat = "numa_hit 9\nnuma_miss 1\n"
    write(
        tmp_path,
        {
            f"{SYS_NODES}/online": "2,10\n",
            f"{SYS_NODES}/node2/meminfo": (
                "\nNode 2 MemTotal:       1000 kB\nNode 2 MemFree:         250 kB\n"
                "Node 2 MemUsed:         750 kB\nNode 2 Active(anon):    8 kB\n"
                "Node 2 HugePages_Total:   3\n"
            ),
            f"{SYS_NODES}/node2/distance": "10 21\n",
            f"{SYS_NODES}/node2/cpulist": "0-2,5,7-8\n",
            f"{SYS_NODES}/node2/numastat": numastat,
            f"{SYS_NODES}/node10/meminfo": "Node 10 MemTotal: 64 kB\nNode 10 MemFree: 16 kB\n",
            f"{SYS_NODES}/node10/distance": "21 10\n",
            f"{SYS_NODES}/node10/cpulist": "\n",
            f"{SYS_NODES}/node10/numastat": numastat,
        },
    )
    stat = {"numa_hit": 9, "numa_miss": 1}
    first = {
        "MemTotal": 1024000,
        "MemFree": 256000,
        "MemUsed": 768000,
        "Active(anon)": 8192,
        "HugePages_Total": 3,
    }
    second = {"MemTotal": 65536, "MemFree": 16384}
    assert nodes._numa(str(tmp_path)) == [
        Node(2, (0, 1, 2, 5, 7, 8), {2: 10, 10: 21}, 1024000, 256000, 768000, first, stat),
        Node(10, (), {2: 21, 10: 10}, 65536, 16384, 49152, second, stat),
    ]


def test_a_kernel_without_numa_says_so(tmp_path: Path) -> None:
    """No folder of nodes, of pools or of transparent huge pages: each names what it takes."""
    root = str(tmp_path)
    for call, takes in (
        (nodes._numa, "CONFIG_NUMA"),
        (nodes._hugepages, "CONFIG_HUGETLBFS"),
        (nodes._transparent, "CONFIG_TRANSPARENT_HUGEPAGE"),
    ):
        with pytest.raises(memfast.NotSupportedError, match=takes) as caught:
            call(root)
        assert caught.value.errno == errno.ENOENT


def test_this_machine_s_nodes() -> None:
    """All CPUs and all memory are somewhere; sizes are those of lsmem's world and meminfo's."""
    if not os.path.isdir(f"/{SYS_NODES}"):
        pytest.skip("this kernel has no NUMA")
    found = nodes.numa()
    online = Path(f"/{SYS_NODES}/online").read_text().strip()
    assert nodes._cpus(online.encode()) == tuple(node.id for node in found)
    assert {cpu for node in found for cpu in node.cpus} >= os.sched_getaffinity(0)
    for node in found:
        assert node.distances[node.id] == 10
        assert 0 < node.used < node.total
        assert node.total == node.meminfo["MemTotal"]
        assert node.numastat["numa_hit"] > 0
        keys = Path(f"/{SYS_NODES}/node{node.id}/meminfo").read_text().count(":")
        assert len(node.meminfo) == keys


# ---- zones ----

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 11
      nr_mapped    3385
  pages free     3840
        boost    0
        min      18
        low      22
        high     26
        spanned  4095
        present  3998
        managed  3841
        protection: (0, 3019, 13515, 13515, 13515)
      nr_free_pages 3840
      numa_hit     7
  pagesets
    cpu: 0
              count:    99
              high:     98
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 11, zone   Normal
  pages free     1
        min      2
        low      3
        high     4
        spanned  5
        present  6
        protection: (0, 0)
      nr_free_pages 1
  pagesets
Node 11, zone  Movable
  pages free     0
        min      32
"""
BUDDYINFO = """\
Node 0, zone      DMA      0      0      1      3
Node 11, zone   Normal  41398  17804   2246    319
"""


@pytest.mark.parametrize("page_bytes", [4096, 16384, 65536])
def test_zones_of_two_nodes(page_bytes: int) -> None:
    """Pages become bytes by the size of a page; what stands before and behind is not the zone's."""
    sizes = [pages * page_bytes for pages in (3840, 18, 22, 26, 4095, 3998, 3841)]
    assert nodes._parse_zones(ZONEINFO.encode(), BUDDYINFO.encode(), page_bytes) == [
        Zone(0, "DMA", *sizes, (0, 0, 1, 3), {"boost": 0, "nr_free_pages": 3840, "numa_hit": 7}),
        Zone(
            11,
            "Normal",
            *(pages * page_bytes for pages in (1, 2, 3, 4, 5, 6, 0)),
            (41398, 17804, 2246, 319),
            {"nr_free_pages": 1},
        ),
        Zone(11, "Movable", 0, 32 * page_bytes, 0, 0, 0, 0, 0, (), {}),
    ]


@pytest.mark.parametrize("text", [b"", b"\n", b"nonsense\nNodes\n"])
def test_a_text_without_zones_is_an_empty_list(text: bytes) -> None:
    """Nothing is made up where the kernel says nothing."""
    assert nodes._parse_zones(text, text, PAGE) == []


def test_this_machine_s_zones() -> None:
    """Name, watermarks and counts of every zone are those of a plain parse of the same files."""
    found = nodes.zones()
    titles = [line for line in Path("/proc/zoneinfo").read_text().splitlines() if "zone" in line]
    assert [f"{zone.node} {zone.name}" for zone in found] == [
        f"{title.split()[1].rstrip(',')} {title.split()[3]}" for title in titles if "Node" in title
    ]
    for zone in found:
        assert zone.min <= zone.low <= zone.high
        assert zone.managed <= zone.present <= zone.spanned
        if zone.managed:
            orders = zip(zone.free_areas, range(20), strict=False)
            in_blocks = sum(count << order for count, order in orders) * PAGE
            assert in_blocks <= zone.managed
            assert zone.counters["nr_free_pages"] * PAGE == zone.free
            assert len(zone.free_areas) >= 10


def test_the_zones_of_a_node_are_its_memory() -> None:
    """What a node has is what the allocator manages in its zones."""
    if not os.path.isdir(f"/{SYS_NODES}"):
        pytest.skip("this kernel has no NUMA")
    for _ in range(100):  # a balloon may take and give meanwhile
        before, found, after = nodes.numa(), nodes.zones(), nodes.numa()
        if [node.total for node in before] == [node.total for node in after]:
            break
    for node in before:
        assert node.total == sum(zone.managed for zone in found if zone.node == node.id)


@support.need_root
def test_a_proc_without_zones_says_so() -> None:
    """Where /proc shows processes only, the error says that it is not mounted whole."""
    code = """
import memfast
from memfast import nodes
try:
    nodes.zones()
except memfast.NotSupportedError as error:
    print("/proc mounted whole" in str(error), error.errno)
"""
    said = support.in_namespace("m", code, before="mount -t proc -o subset=pid proc /proc")
    assert said.split() == ["True", str(errno.ENOENT)]


# ---- huge pages ----


def test_pools_of_three_sizes(tmp_path: Path) -> None:
    """Each pool's counts under their names, smallest pages first."""
    names = "nr", "free", "resv", "surplus", "nr_overcommit"
    for kib, counts in ((1048576, (1, 1, 0, 0, 0)), (64, (9, 8, 7, 6, 5)), (2048, (4, 3, 2, 1, 0))):
        write(
            tmp_path,
            {
                f"{SYS_POOLS}/hugepages-{kib}kB/{name}_hugepages": f"{count}\n"
                for name, count in zip(names, counts, strict=True)
            },
        )
    assert nodes._hugepages(str(tmp_path)) == [
        HugePagePool(64 << 10, total=9, free=8, reserved=7, surplus=6, overcommit=5),
        HugePagePool(2 << 20, 4, 3, 2, 1, 0),
        HugePagePool(1 << 30, 1, 1, 0, 0, 0),
    ]


def test_this_machine_s_pool_is_meminfo_s() -> None:
    """The default size and its counts are those of /proc/meminfo."""
    if not os.path.isdir(f"/{SYS_POOLS}"):
        pytest.skip("this kernel has no hugetlbfs")
    lines = Path("/proc/meminfo").read_text().splitlines()
    said = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    pools = {pool.size: pool for pool in nodes.hugepages()}
    pool = pools[said["Hugepagesize"] * 1024]
    assert pool.total == said["HugePages_Total"]
    assert pool.free == said["HugePages_Free"]
    assert pool.reserved == said["HugePages_Rsvd"]


def test_the_modes_of_transparent_huge_pages(tmp_path: Path) -> None:
    """The word in brackets; sizes of shared memory alone and kernels without sizes are fine."""
    write(
        tmp_path,
        {
            f"{SYS_TRANSPARENT}/enabled": "always [madvise] never\n",
            f"{SYS_TRANSPARENT}/defrag": "always defer [defer+madvise] madvise never\n",
            f"{SYS_TRANSPARENT}/hpage_pmd_size": "2097152\n",
        },
    )
    plain = TransparentHugePages("madvise", "defer+madvise", None, 2 << 20, {})
    assert nodes._transparent(str(tmp_path)) == plain
    write(
        tmp_path,
        {
            f"{SYS_TRANSPARENT}/shmem_enabled": "always within_size advise [never] deny force\n",
            f"{SYS_TRANSPARENT}/hugepages-64kB/enabled": "always [inherit] madvise never\n",
            f"{SYS_TRANSPARENT}/hugepages-8kB/shmem_enabled": "always [never]\n",
        },
    )
    assert nodes._transparent(str(tmp_path)) == plain._replace(
        shmem="never", sizes={64 << 10: "inherit"}
    )


def test_this_machine_s_transparent_huge_pages() -> None:
    """The mode is one of the three words that there are, and the one that the file brackets."""
    path = Path(f"/{SYS_TRANSPARENT}/enabled")
    if not path.exists():
        pytest.skip("this kernel has no transparent huge pages")
    found = nodes.transparent_hugepages()
    assert found.enabled in ("always", "madvise", "never")
    assert f"[{found.enabled}]" in path.read_text()
    assert found.size >= PAGE * 512 or found.size % PAGE == 0


@pytest.mark.skipif(shutil.which("lsmem") is None, reason="lsmem(1) is not installed")
def test_present_memory_is_what_lsmem_finds() -> None:
    """The zones' present pages fill the online memory blocks of lsmem(1), but for a few holes."""
    command = ["lsmem", "--summary=only", "--bytes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    online = int(done.stdout.partition("online memory:")[2].split()[0])
    present = sum(zone.present for zone in nodes.zones())
    assert 0 <= online - present < 256 << 20
