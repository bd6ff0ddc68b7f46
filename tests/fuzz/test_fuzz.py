"""Rings made of arbitrary bytes: attached to, sent through and received from, under ASan."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "csrc" / "run"
LACKS_SOMETHING = 77  # the exit status of run(1) for it

pytestmark = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "gcc")) is None, reason="no C compiler"
)


def campaign(seed: int, inputs: int) -> None:
    """Run that many random inputs; the seed tells them all, and is printed."""
    print(f"seed {seed}")
    done = subprocess.run(
        [str(RUN), "campaign", str(seed), str(inputs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == LACKS_SOMETHING:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    assert f"{inputs} inputs, no crash" in done.stdout


@pytest.mark.timeout(240)
def test_no_bytes_make_the_ring_step_outside() -> None:
    """300,000 programs of forged words and calls: none reads or writes outside the ring."""
    campaign(secrets.randbits(64), 300_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_bytes_make_the_ring_step_outside_in_a_long_campaign() -> None:
    """The same, a hundred times as long."""
    campaign(secrets.randbits(64), 30_000_000)
