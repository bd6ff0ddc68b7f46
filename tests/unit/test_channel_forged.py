"""A segment that is no channel, is another version's, or is not ours alone: refused, by name."""

from __future__ import annotations

import os
import struct

import pytest
import support

import memfast
from memfast import ring

VERSION, CAPACITY, SLOT_COUNT, SENDER_STATE = 8, 16, 24, 256


@pytest.fixture
def segment() -> memfast.Segment:
    """A segment with a ring in it, as a channel has it."""
    with memfast.Segment.create(ring.size(4096)) as segment:
        ring.make(segment.pages, 4096)
        yield segment


def test_memory_without_a_ring_is_no_channel():
    """Zeroes are refused; so is a segment too small for any ring."""
    for size in (1, 4095, 100_000):
        with (
            memfast.Segment.create(size) as segment,
            pytest.raises(memfast.LayoutError, match="no ring"),
        ):
            memfast.Channel(segment)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_version_is_named(segment, version):
    """Both versions are in the message, and what to do."""
    segment.write(struct.pack("<I", version), VERSION)
    expected = "no ring" if version == 0 else f"version {version}, this memfast speaks 1"
    with pytest.raises(memfast.LayoutError, match=expected):
        memfast.Channel(segment)


@pytest.mark.parametrize("offset", [0, 12, CAPACITY, SLOT_COUNT])
@pytest.mark.parametrize("value", [0, 1, 3, 1 << 31, 1 << 37, 2**63, 2**64 - 1])
def test_a_forged_shape_is_refused(segment, offset, value):
    """Magic, header size, capacity and slot count: any other value is a LayoutError."""
    packed = struct.pack("<Q", value)
    segment.write(packed[:4] if offset == 12 else packed, offset)
    with pytest.raises(memfast.LayoutError):
        memfast.Channel(segment)


@pytest.mark.parametrize("state", [2, 2 * 33, 2**63, 2**64 - 2])
def test_a_receiver_that_claims_what_was_never_sent_is_an_error(segment, state):
    """The sender says so at its claim, or at its first look; it never writes outside."""
    segment.write(struct.pack("<Q", state), SENDER_STATE + 128)
    with pytest.raises(memfast.LayoutError):
        send_until_full(memfast.Channel(segment))


def send_until_full(channel: memfast.Channel) -> None:
    with channel.sender() as sender:
        while sender.try_send(b"x" * 500):
            pass


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_segment_that_others_may_write_is_refused(segment, mode):
    """Whoever can write to it could forge it: the mode is in the message."""
    segment.chmod(mode)
    with pytest.raises(memfast.AccessError, match=f"{mode:04o}"):
        memfast.Channel(segment)


@support.need_root
def test_a_segment_of_another_user_is_refused(segment):
    """Root may attach it, and still takes no part in it."""
    segment.chown(65534, 65534)
    with pytest.raises(PermissionError, match="owner 65534"):
        memfast.Channel(segment)
    segment.chown(os.geteuid(), os.getegid())


def test_a_read_only_attachment_is_refused_and_not_written_to(segment):
    """A claim is a store: there it would be SIGSEGV."""
    with memfast.Segment.open(id=segment.id, readonly=True) as readonly:
        channel = memfast.Channel(readonly)
        for call in (channel.sender, channel.receiver, lambda: ring.make(readonly.pages, 4096)):
            with pytest.raises(memfast.AccessError):
                call()
        assert channel.stats().messages_sent == 0
