"""/proc/vmstat: every counter, and what happened a second."""

from __future__ import annotations

import mmap
import os
import pickle
from pathlib import Path

import pytest

import memfast
from memfast import stats


def test_vmstat_has_every_counter_of_the_kernel() -> None:
    """Each line of the file, in its order; those that never change agree exactly."""
    by_hand = {
        key: int(value)
        for key, value in (
            line.split() for line in Path("/proc/vmstat").read_text().splitlines() if line
        )
    }
    counters = memfast.vmstat()
    assert list(counters) == list(by_hand)
    assert counters.nr_dirty_threshold is not None
    grown = [key for key in by_hand if not key.startswith(("nr_", "workingset_nodes"))]
    assert all(counters[key] >= by_hand[key] for key in grown)
    assert counters.pgfault == counters["pgfault"]
    assert pickle.loads(pickle.dumps(counters)) == counters


def test_rates_count_what_this_process_does() -> None:
    """Pages touched in the interval are faults of it, by at least their number."""
    before = memfast.vmstat()
    with mmap.mmap(-1, 512 * mmap.PAGESIZE) as pages:
        for page in range(512):
            pages[page * mmap.PAGESIZE] = 1
        after = memfast.vmstat()
    from memfast import counters

    rates = counters.between(before, after, 0.5)
    assert rates.faults >= 512 / 0.5
    assert rates.seconds == 0.5


def test_rates_are_in_bytes_and_survive_a_reset() -> None:
    """Swap in pages of this machine, blocks in KiB; a counter that went back counts from 0."""
    from memfast import counters

    page = os.sysconf("SC_PAGESIZE")
    before = stats.VmStat(b"pswpin 10\npswpout 5\npgpgin 100\npgpgout 900\npgfault 7\n")
    after = stats.VmStat(b"pswpin 14\npswpout 5\npgpgin 102\npgpgout 30\npgfault 8\npgmajfault 6\n")
    assert counters.between(before, after, 2.0) == stats.Rates(
        2.0, 4 * page / 2, 0.0, 2 * 1024 / 2, 30 * 1024 / 2, 0.5, 3.0
    )


def test_rates_watch_for_as_long_as_they_are_told() -> None:
    """The seconds they report are those that passed."""
    rates = stats.rates(0.05)
    assert rates.seconds >= 0.05
    assert min(rates) >= 0


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), 1e10])
def test_an_interval_is_more_than_nothing_and_comes_to_an_end(interval: float) -> None:
    """Refused before the first reading."""
    with pytest.raises(ValueError, match="more than 0 s"):
        stats.rates(interval)
