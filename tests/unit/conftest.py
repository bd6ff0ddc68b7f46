"""What the unit tests of a channel share: a small one, and both ends of it."""

from __future__ import annotations

import pytest

import memfast


@pytest.fixture
def channel() -> memfast.Channel:
    with memfast.Channel.create(capacity=4096) as channel:
        yield channel


@pytest.fixture
def ends(channel: memfast.Channel) -> tuple[memfast.Sender, memfast.Receiver]:
    with channel.sender() as sender, channel.receiver() as receiver:
        yield sender, receiver
