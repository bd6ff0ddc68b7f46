"""Mappings in one process: what they take, give, keep and refuse."""

from __future__ import annotations

import copy
import errno
import gc
import io
import mmap
import os
import secrets
import stat
from pathlib import Path

import numpy
import pytest
import support

import memfast
from memfast import MemoryMap

PAGE = mmap.PAGESIZE
ADVICE = """
    normal random sequential willneed dontneed free remove dontfork dofork mergeable unmergeable
    hugepage nohugepage collapse dontdump dodump wipeonfork keeponfork cold pageout
    populate_read populate_write guard_install guard_remove
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of 2.5 pages of random bytes."""
    file = tmp_path / "file"
    file.write_bytes(secrets.token_bytes(PAGE * 5 // 2))
    return file


def address_mapped(view: memoryview) -> bool:
    """Whether the kernel still lists the mapping that a view lies in."""
    address = numpy.frombuffer(view, "u1").__array_interface__["data"][0]
    return any(vma.start <= address < vma.end for vma in memfast.vmas())


# ---- without a name ----


@pytest.mark.parametrize("size", [1, 64, PAGE - 1, PAGE, PAGE + 1, 1 << 20])
def test_a_new_map_has_its_size_and_only_zeroes(size: int) -> None:
    """create() gives exactly the bytes that were asked for, all zero and all writable."""
    with MemoryMap.create(size) as made:
        assert (made.size, made.name, made.readonly, made.closed) == (size, None, False, False)
        assert made.buf.nbytes == size
        assert bytes(made.buf) == bytes(size)
        made.buf[-1] = 7
        assert made.buf[-1] == 7


def test_a_memfd_cannot_be_resized_by_anybody() -> None:
    """Truncation, which would turn a peer's read into SIGBUS, is sealed off, both ways."""
    with MemoryMap.create(2 * PAGE) as made:
        for size in (0, PAGE, 3 * PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(made.fileno(), size)
        assert os.fstat(made.fileno()).st_size == 2 * PAGE


def test_a_memfd_has_the_mode_asked_for_and_is_not_inherited() -> None:
    """The file behind a map has the given mode whatever the umask, and is closed on exec."""
    before = os.umask(0o777)
    try:
        with MemoryMap.create(PAGE, mode=0o640) as made:
            assert stat.S_IMODE(os.fstat(made.fileno()).st_mode) == 0o640
            assert not os.get_inheritable(made.fileno())
    finally:
        os.umask(before)


@pytest.mark.parametrize("make", [MemoryMap.create, MemoryMap.anonymous])
def test_memory_is_reserved_at_creation(make: object) -> None:
    """Each page of a new map has its memory before anybody touches it."""
    with make(64 * PAGE) as made:  # type: ignore[operator]
        assert made.resident() == (64, 64, PAGE, True)
        before = memfast.faults().minor
        made.buf[:] = bytes(64 * PAGE)
        # The bytes object itself faults; the map would double that.
        assert memfast.faults().minor - before < 64 + 60


def test_an_anonymous_map_has_no_descriptor_and_reaches_children_only() -> None:
    """anonymous() opens nothing, is shared by fork, and says that it does not pickle."""
    before = support.descriptors()
    with MemoryMap.anonymous(PAGE) as made:
        assert support.descriptors() == before
        with pytest.raises(io.UnsupportedOperation):
            made.fileno()
        with pytest.raises(TypeError, match="fork alone"):
            copy.copy(made)
        with support.forked(lambda: made.buf.__setitem__(0, 9)) as pid:
            assert support.exit_status(pid) == 0
        assert made.buf[0] == 9


@pytest.mark.parametrize("size", [0, -1, 1 << 62, -(1 << 70)])
@pytest.mark.parametrize("make", [MemoryMap.create, MemoryMap.anonymous])
def test_an_impossible_size_is_refused(make: object, size: int) -> None:
    """Size 0, a negative one and one beyond all addresses are a ValueError, before any call."""
    with pytest.raises(ValueError, match="size of"):
        make(size)  # type: ignore[operator]


def test_more_than_there_is_is_an_error_and_not_a_kill(name: str) -> None:
    """A size over the free memory is NoSpaceError, says how much there is, and leaves nothing."""
    huge = 1 << 46
    for make in (
        lambda: MemoryMap.create(huge),
        lambda: MemoryMap.create(huge, name=name),
        lambda: MemoryMap.anonymous(huge),
    ):
        with pytest.raises(memfast.NoSpaceError, match=r"may take \d+ bytes more"):
            make()


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o777, 0o1600, 0o060, 0, -1])
def test_a_mode_that_lets_everybody_write_or_the_owner_not_read_is_refused(mode: int) -> None:
    """The mode's bits are checked before anything is made."""
    with pytest.raises(ValueError, match="mode"):
        MemoryMap.create(PAGE, mode=mode)


def test_contradictory_arguments_are_refused(name: str) -> None:
    """persist needs a name, huge pages must have none and a size that exists."""
    with pytest.raises(ValueError, match="persist"):
        MemoryMap.create(PAGE, persist=True)
    with pytest.raises(ValueError, match="/dev/shm"):
        MemoryMap.create(PAGE, name=name, hugepages="2M")
    with pytest.raises(ValueError, match="hugepages"):
        MemoryMap.create(PAGE, hugepages="3M")
    with pytest.raises(TypeError, match="create"):
        MemoryMap()


@pytest.mark.parametrize(("hugepages", "kib"), [("2M", 2048), ("1G", 1 << 20)])
def test_missing_huge_pages_are_named_with_the_file_to_raise(hugepages: str, kib: int) -> None:
    """Without reserved huge pages the error names the pool and the file that enlarges it."""
    pool = Path(f"/sys/kernel/mm/hugepages/hugepages-{kib}kB")
    if not pool.is_dir() or int((pool / "free_hugepages").read_text()):
        pytest.skip(f"needs a machine with an empty {pool}")
    with pytest.raises(memfast.LimitError, match=f"{pool}/nr_hugepages"):
        MemoryMap.create(PAGE, hugepages=hugepages)


# ---- views ----


def test_views_outlive_close() -> None:
    """After close() every view still reads the memory; the last one unmaps it."""
    made = MemoryMap.create(PAGE)
    view, array = made.buf, made.ndarray((4,), "u4", 16)[1:]
    array[:] = 5
    made.close()
    assert view[20:24] == b"\5\0\0\0"
    assert address_mapped(view)
    address = array.__array_interface__["data"][0]
    del view
    array += 1
    assert list(array) == [6, 6, 6]
    del array
    gc.collect()
    assert not any(vma.start <= address < vma.end for vma in memfast.vmas())


def test_a_closed_map_says_so() -> None:
    """Each use after close() is ClosedError; close() twice is nothing."""
    made = MemoryMap.create(PAGE)
    made.close()
    made.close()
    assert made.closed
    assert "closed" in repr(made)
    for use in (
        lambda: made.buf,
        lambda: made.pages,
        lambda: made.fileno(),
        lambda: made.ndarray(1, "u1"),
        lambda: made.__dlpack__(),
        lambda: made.flush(),
        lambda: made.advise("normal"),
        lambda: made.mlock(),
        lambda: made.munlock(),
        lambda: made.resident(),
        lambda: made.unlink(),
        lambda: made.__enter__(),
        lambda: copy.copy(made),
    ):
        with pytest.raises(memfast.ClosedError):
            use()


def test_a_dropped_map_closes_itself() -> None:
    """A handle that is forgotten gives its descriptor and its memory back."""
    before = support.descriptors()
    made = MemoryMap.create(PAGE)
    address = made.pages.address
    del made
    gc.collect()
    assert support.descriptors() == before
    assert not any(vma.start <= address < vma.end for vma in memfast.vmas())


def test_arrays_are_the_memory_itself() -> None:
    """ndarray() copies nothing, starts where asked, and takes any shape that fits."""
    with MemoryMap.create(96) as made:
        array = made.ndarray((2, 5), "<i8", 16)
        array[1, 4] = -1
        assert bytes(made.buf[88:]) == b"\xff" * 8
        assert made.ndarray(96, numpy.uint8).sum() == 8 * 255
        assert made.ndarray((0, 3), "f8").shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [(97, "u1", 0), (12, "i8", 1), (1, "u1", 96), (1, "u1", -1), (1, "O", 0)],
)
def test_an_array_that_does_not_fit_is_refused(shape: int, dtype: str, offset: int) -> None:
    """No array reaches beyond the memory, and none holds references to objects."""
    with MemoryMap.create(96) as made, pytest.raises(ValueError):
        made.ndarray(shape, dtype, offset)


def test_dlpack_shares_the_memory_and_holds_it() -> None:
    """An array taken by DLPack sees stores to the map, also after close()."""
    made = MemoryMap.create(PAGE)
    view = made.buf
    array = numpy.from_dlpack(made)
    assert array.nbytes == PAGE
    made.close()
    view[3] = 33
    assert array[3] == 33


def test_a_read_only_map_cannot_be_written_in_any_way(path: Path) -> None:
    """Views, their slices and arrays of a read-only map refuse a store; nothing crashes."""
    with MemoryMap.file(path) as made:
        assert made.readonly
        assert made.buf.readonly
        with pytest.raises(TypeError):
            made.buf[1:3][0] = 1
        array = made.ndarray((3,), "u1")
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError):
            array.flags.writeable = True


# ---- files and descriptors ----


def test_a_file_is_mapped_from_any_offset(path: Path) -> None:
    """Whatever offset and length inside the file, the map shows those bytes and no others."""
    data = path.read_bytes()
    for offset in (0, 1, PAGE - 1, PAGE, PAGE + 17, len(data) - 1):
        with MemoryMap.file(path, offset=offset) as made:
            assert bytes(made.buf) == data[offset:]
            assert made.resident().page_bytes == PAGE
        with MemoryMap.file(path, offset=offset, length=1) as made:
            assert bytes(made.buf) == data[offset : offset + 1]


def test_stores_reach_the_file_after_a_flush(path: Path) -> None:
    """A writable map changes the file; flush() takes any part of it and no other."""
    with MemoryMap.file(path, readonly=False, offset=5) as made:
        made.buf[PAGE : PAGE + 3] = b"new"
        made.flush(PAGE + 1, 1)
        made.flush(wait=False)
        made.flush(made.size, 0)
        with pytest.raises(ValueError):
            made.flush(made.size, 1)
        with pytest.raises(ValueError):
            made.flush(-1)
    assert path.read_bytes()[5 + PAGE : 8 + PAGE] == b"new"


def test_what_would_end_in_sigbus_or_nonsense_is_refused(path: Path, tmp_path: Path) -> None:
    """Empty files, parts beyond the end, directories, FIFOs, missing and unreadable: all errors."""
    size = path.stat().st_size
    for offset, length in ((0, size + 1), (size, None), (size - 1, 2), (-1, None), (0, 0), (0, -1)):
        with pytest.raises(ValueError):
            MemoryMap.file(path, offset=offset, length=length)
    empty, fifo = tmp_path / "empty", tmp_path / "fifo"
    empty.touch()
    os.mkfifo(fifo)
    with pytest.raises(ValueError, match="empty"):
        MemoryMap.file(empty)
    for thing in (fifo, tmp_path):
        with pytest.raises(ValueError, match="nothing to map"):
            MemoryMap.file(thing)
    with pytest.raises(memfast.NotFoundError, match="missing"):
        MemoryMap.file(tmp_path / "missing")


def test_a_device_whose_driver_maps(tmp_path: Path) -> None:
    """/dev/zero maps when told how long; no length, or a driver that cannot map, is an error."""
    with MemoryMap.file("/dev/zero", readonly=False, length=PAGE + 1) as made:
        made.buf[PAGE] = 1
        assert made.size == PAGE + 1
    with pytest.raises(ValueError, match="length"):
        MemoryMap.file("/dev/zero")
    with pytest.raises(memfast.NotSupportedError, match="driver"):
        MemoryMap.file("/dev/null", length=PAGE)


def test_a_descriptor_stays_the_caller_s(path: Path) -> None:
    """from_fd() maps through a duplicate: either side may close first."""
    fd = os.open(path, os.O_RDWR)
    with MemoryMap.from_fd(fd, length=10) as made:
        assert made.fileno() != fd
        os.close(fd)
        assert bytes(made.buf) == path.read_bytes()[:10]
    memfd = os.memfd_create("test")
    os.ftruncate(memfd, PAGE)
    with MemoryMap.from_fd(memfd) as made:
        made.buf[0] = 1
    assert os.pread(memfd, 1, 0) == b"\1"
    os.close(memfd)


def test_a_descriptor_that_cannot_be_mapped_is_refused(path: Path) -> None:
    """The wrong access mode, a pipe, a closed and a negative descriptor are clear errors."""
    reading = os.open(path, os.O_RDONLY)
    writing = os.open(path, os.O_WRONLY)
    with pytest.raises(memfast.AccessError, match="readonly=True"):
        MemoryMap.from_fd(reading)
    with pytest.raises(ValueError, match="writing only"):
        MemoryMap.from_fd(writing, readonly=True)
    os.close(reading)
    os.close(writing)
    ends = os.pipe()
    with pytest.raises(ValueError, match="nothing to map"):
        MemoryMap.from_fd(ends[0], readonly=True)
    for end in ends:
        os.close(end)
    with pytest.raises(OSError, match="file descriptor") as caught:
        MemoryMap.from_fd(ends[0])
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError):
        MemoryMap.from_fd(-1)


def test_a_sealed_memfd_maps_read_only() -> None:
    """What its owner sealed against writing is refused for writing and maps for reading."""
    import fcntl

    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(fd, b"fixed")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    with pytest.raises(memfast.AccessError, match="readonly=True"):
        MemoryMap.from_fd(fd)
    with MemoryMap.from_fd(fd, readonly=True) as made:
        assert bytes(made.buf) == b"fixed"
    os.close(fd)


# ---- advice, locks, residency ----


@pytest.mark.parametrize("advice", ADVICE.split())
def test_no_advice_makes_memory_unusable(advice: str) -> None:
    """Each advice is taken or refused with a reason; every byte stays readable and writable."""
    with MemoryMap.create(8 * PAGE) as made:
        made.buf[:] = b"x" * made.size
        refusal = ""
        try:
            made.advise(advice)
        except (ValueError, OSError) as error:
            refusal = str(error)
        assert not refusal or advice in refusal
        kept = b"\0" if advice == "remove" and not refusal else b"x"
        assert bytes(made.buf) == kept * made.size
        made.buf[:] = b"y" * made.size


def test_the_table_of_advice_is_this_one() -> None:
    """An unknown name is a ValueError that lists exactly the known ones."""
    with MemoryMap.create(PAGE) as made:
        for name in ("hwpoison", "soft_offline", "WILLNEED", ""):
            with pytest.raises(ValueError, match="unknown") as caught:
                made.advise(name)
            assert str(caught.value).split("there are: ")[1].split(", ") == ADVICE.split()


@pytest.mark.parametrize("advice", ["guard_install", "dontfork"])
def test_advice_that_would_crash_a_view_is_refused_with_the_reason(advice: str) -> None:
    """What would turn a read into SIGSEGV, here or in a child, is refused by name."""
    with MemoryMap.create(PAGE) as made, pytest.raises(ValueError, match="SIGSEGV"):
        made.advise(advice)


def test_advice_that_changes_contents_takes_whole_pages_only() -> None:
    """ "remove" of a part zeroes that part; one that cuts a page is refused and changes nothing."""
    with MemoryMap.create(4 * PAGE + 10) as made:
        made.buf[:] = b"x" * made.size
        for offset, length in ((1, PAGE), (PAGE, 5), (0, 1), (PAGE + 1, None)):
            with pytest.raises(ValueError, match="lest"):
                made.advise("remove", offset, length)
        assert bytes(made.buf) == b"x" * made.size
        made.advise("remove", PAGE, PAGE)
        assert bytes(made.buf) == b"x" * PAGE + bytes(PAGE) + b"x" * (2 * PAGE + 10)
        made.advise("remove", 4 * PAGE)
        assert bytes(made.buf[4 * PAGE :]) == bytes(10)


def test_reserved_memory_of_a_name_is_not_given_back(name: str) -> None:
    """A named map refuses "remove": its pages might not come back from a full /dev/shm."""
    with MemoryMap.create(PAGE, name=name) as made:
        made.buf[:4] = b"data"
        with pytest.raises(ValueError, match="SIGBUS"):
            made.advise("remove")
        assert bytes(made.buf[:4]) == b"data"


def test_populate_brings_a_file_in(path: Path) -> None:
    """advise("populate_read") makes each page of a file map resident."""
    with MemoryMap.file(path) as made:
        made.advise("populate_read")
        assert made.resident()[:2] == (3, 3)
        with pytest.raises(ValueError, match="populate_write"):
            made.advise("populate_write")


@pytest.mark.parametrize("onfault", [False, True])
def test_locked_pages_show_in_the_process_s_status(onfault: bool) -> None:
    """mlock() locks the whole map (VmLck), munlock() undoes it."""

    def locked() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmLck")).split()[1])

    before = locked()
    with MemoryMap.create(16 * PAGE) as made:
        made.mlock(onfault=onfault)
        assert locked() - before == 16 * PAGE // 1024
        made.munlock()
        assert locked() == before


def test_a_lock_over_the_limit_names_the_limit() -> None:
    """Over RLIMIT_MEMLOCK, without the capability, mlock() is a LimitError with the value."""
    code = """
import os, resource, memfast
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192, 8192))
made = memfast.MemoryMap.create(65536)
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    made.mlock()
except memfast.LimitError as error:
    print(error)
"""
    assert "RLIMIT_MEMLOCK lets this process lock 8192" in support.run_python(code)


def test_no_addresses_left_names_the_limit() -> None:
    """Over RLIMIT_AS a map is a LimitError with the value; nothing is left open."""
    code = """
import os, resource, memfast
memfast.MemoryMap.create(4096).close()
import memfast.mapping_errors
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
before = os.listdir("/proc/self/fd")
for make in (memfast.MemoryMap.create, memfast.MemoryMap.anonymous):
    try:
        make(1 << 31)
    except memfast.LimitError as error:
        print(error)
assert os.listdir("/proc/self/fd") == before
"""
    assert support.run_python(code).count(f"RLIMIT_AS is {1 << 30} bytes") == 2


def test_a_file_of_somebody_else_is_not_trusted_to_be_resident(path: Path) -> None:
    """resident() says when the kernel hides the truth: a file that we neither own nor may write."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    path.chmod(0o444)
    with MemoryMap.file(path) as made:
        assert made.resident().trusted

        def other() -> None:
            os.setresuid(65534, 65534, 65534)
            assert not made.resident().trusted

        with support.forked(other) as pid:
            assert support.exit_status(pid) == 0
