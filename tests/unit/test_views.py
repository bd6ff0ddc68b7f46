"""Views of attached memory: they hold it, they are bounded, and a read-only one stays read-only."""

from __future__ import annotations

import gc
import io
import mmap
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest

import memfast
from memfast import Segment

SIZE = 10_000


@pytest.fixture
def segment():
    with Segment.create(SIZE) as made:
        yield made


def attached(segment: Segment) -> bool:
    """Whether this process still maps the segment, by the kernel's own list of mappings."""
    gc.collect()
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return any(row[4] == str(segment.id) and row[5].startswith("/SYSV") for row in rows if row[5:])


def memoryview_of(segment):
    return segment.buf


def slice_of(segment):
    return segment.buf[10:20][2:4]


def cast_of(segment):
    return segment.buf[:80].cast("d")


def array_of(segment):
    return segment.ndarray((10, 10), "u4", 8)


def slice_of_array(segment):
    return segment.ndarray((10, 10), "u4")[::2, 3]


def dlpack_of(segment):
    return np.from_dlpack(segment)


def frombuffer_of(segment):
    return np.frombuffer(segment.buf, "u1")


@pytest.mark.parametrize(
    "make",
    [memoryview_of, slice_of, cast_of, array_of, slice_of_array, dlpack_of, frombuffer_of],
)
def test_a_view_outlives_close_and_detaches_with_its_death(segment, make):
    """After close() the view still reads and writes the segment; with the view the memory goes."""
    view = make(segment)
    segment.close()
    assert segment.closed
    assert attached(segment)
    np.asarray(view).fill(3)
    assert (np.asarray(view) == 3).all()
    del view
    assert not attached(segment)


def test_close_without_views_detaches_at_once(segment):
    """close() of a handle without views takes the memory out of the process; twice is fine."""
    assert attached(segment)
    segment.close()
    assert not attached(segment)
    segment.close()


def test_the_context_manager_closes(segment):
    """Leaving the with block closes; a closed handle cannot be entered."""
    with segment as same:
        assert same is segment
    assert segment.closed
    with pytest.raises(memfast.ClosedError), segment:
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.buf,
        lambda s: s.pages,
        lambda s: s.read(),
        lambda s: s.write(b"x"),
        lambda s: s.ndarray((1,), "u1"),
        lambda s: s.__dlpack__(),
        lambda s: s.stat(),
        lambda s: s.chmod(0o600),
        lambda s: s.chown(0),
        lambda s: s.mlock(),
        lambda s: s.munlock(),
        lambda s: s.__reduce__(),
    ],
)
def test_a_closed_handle_raises(segment, use):
    """Every use of a closed handle is ClosedError, and its figures stay readable."""
    segment.close()
    with pytest.raises(memfast.ClosedError, match="closed"):
        use(segment)
    assert (segment.size, segment.readonly, segment.key) == (SIZE, False, None)
    assert "closed" in repr(segment)


def test_what_one_handle_writes_another_reads(segment):
    """Two attachments of one segment in one process see the same bytes."""
    with Segment.open(id=segment.id) as other:
        assert segment.write(b"hello", 17) == 5
        assert other.read(5, 17) == b"hello"
        assert other.buf[17:22] == b"hello"


def test_read_is_bounded_as_a_file_is(segment):
    """read() gives what there is up to the end, and refuses an offset outside."""
    segment.write(b"end", SIZE - 3)
    assert segment.read() == bytes(SIZE - 3) + b"end"
    assert segment.read(-1, SIZE - 3) == segment.read(99, SIZE - 3) == b"end"
    assert segment.read(5, SIZE) == segment.read(0) == b""
    for n, offset in [(-2, 0), (1, -1), (1, SIZE + 1)]:
        with pytest.raises(ValueError):
            segment.read(n, offset)
    with pytest.raises(TypeError):
        segment.read(1.5)


def test_a_write_that_does_not_fit_changes_nothing(segment):
    """A write past the end, at a wrong offset or of no bytes-like is refused as a whole."""
    for data, offset in [(b"abcd", SIZE - 3), (bytes(SIZE + 1), 0), (b"a", SIZE), (b"a", -1)]:
        with pytest.raises(ValueError):
            segment.write(data, offset)
    for data in ("text", 42, None):
        with pytest.raises(TypeError):
            segment.write(data)
    assert segment.read() == bytes(SIZE)


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        array("i", [1, 2, 3]),
        np.arange(12).reshape(3, 4),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.zeros((0, 3)),
        b"",
    ],
)
def test_write_takes_any_bytes_like(segment, data):
    """Bytes, arrays of any item, strided and empty ones: what arrives is tobytes()."""
    expected = memoryview(data).tobytes()
    assert segment.write(data, 5) == len(expected)
    assert segment.read(len(expected), 5) == expected


def test_write_takes_a_mapping_and_lets_go_of_it(segment):
    """A source that must be closed can be, right after the write: no view of it is kept."""
    with mmap.mmap(-1, 4096) as source:
        source[:3] = b"map"
        segment.write(source)
    assert segment.read(3) == b"map"


def test_an_array_is_the_memory_itself(segment):
    """ndarray() copies nothing: shape, dtype, offset and writes are those of the segment."""
    table = segment.ndarray((3, 5), "<f8", 16)
    assert (table.shape, table.dtype, table.flags.owndata) == ((3, 5), np.dtype("<f8"), False)
    table[1, 2] = 2.5
    assert segment.read(8, 16 + 8 * 7) == np.float64(2.5).tobytes()


@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [
        ((SIZE + 1,), "u1", 0),
        ((SIZE // 8,), "f8", 8),
        ((1,), "u1", SIZE),
        ((1,), "u1", -1),
        ((1 << 40, 1 << 40), "f8", 0),
        ((2, -3), "u1", 0),
        ((4,), object, 0),
        ((4,), [("a", "i4"), ("b", object)], 0),
    ],
)
def test_an_array_that_does_not_fit_is_refused(segment, shape, dtype, offset):
    """An array past the end, or one of Python objects, is ValueError."""
    with pytest.raises(ValueError):
        segment.ndarray(shape, dtype, offset)


def test_a_read_only_segment_is_read_only_all_the_way(segment):
    """No view, slice, cast or array of a read-only attachment can be written, or made writable."""
    segment.write(b"data")
    with Segment.open(id=segment.id, readonly=True) as reader:
        assert reader.readonly
        assert reader.read(4) == b"data"
        for view in (
            reader.buf,
            reader.buf[1:3],
            reader.buf[:8].cast("d"),
            reader.buf.toreadonly(),
        ):
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
        table = reader.ndarray((4,), "u1")
        for writable in (table, table[1:], table.view("i1")):
            with pytest.raises(ValueError):
                writable[0] = 1
            with pytest.raises(ValueError):
                writable.flags.writeable = True
        maps = Path("/proc/self/maps").read_text().splitlines()
        start = f"{reader.pages.address:08x}-"
        assert [row.split()[1] for row in maps if row.startswith(start)] == ["r--s"]
        with pytest.raises(memfast.AccessError, match="readonly"):
            reader.write(b"x")
        with pytest.raises((TypeError, BufferError)):
            io.BytesIO(b"x").readinto(reader.buf)
    assert segment.read(4) == b"data"


def test_dlpack_says_where_it_lives(segment):
    """from_dlpack() gives the bytes of the segment, without a copy, on the CPU."""
    assert segment.__dlpack_device__() == np.zeros(1).__dlpack_device__()
    flat = np.from_dlpack(segment)
    assert (flat.shape, flat.dtype) == ((SIZE,), np.dtype("u1"))
    segment.write(b"\x07", 42)
    assert flat[42] == 7


def test_close_in_another_thread_does_not_disturb_a_read():
    """Reads and views that run while another thread closes see whole data or ClosedError."""
    for _ in range(100):
        segment = Segment.create(1 << 16)
        segment.write(b"\x55" * (1 << 16))
        go = threading.Event()
        wrong = []

        def read(segment=segment, go=go, wrong=wrong):
            go.wait()
            try:
                while True:
                    if segment.read() != b"\x55" * (1 << 16):
                        wrong.append("torn")
                        return
            except memfast.ClosedError:
                pass

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        go.set()
        segment.close()
        for thread in threads:
            thread.join()
        assert not wrong
        assert not attached(segment)
