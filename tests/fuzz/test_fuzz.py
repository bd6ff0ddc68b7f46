"""Arbitrary bytes where a ring, or a text of the kernel, should be: used and parsed, under ASan."""

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


def campaign(target: str, seed: int, inputs: int) -> None:
    """Run that many random inputs; the seed tells them all, and is printed."""
    print(f"seed {seed}")
    done = subprocess.run(
        [str(RUN), "campaign", target, str(seed), str(inputs)],
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
    campaign("ring", secrets.randbits(64), 300_000)


@pytest.mark.timeout(240)
def test_no_text_makes_a_parser_step_outside() -> None:
    """1,000,000 damaged texts of /proc: each is read to its end and not beyond."""
    campaign("text", secrets.randbits(64), 1_000_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", ["ring", "text"])
def test_a_long_campaign(target: str) -> None:
    """The same, thirty million times."""
    campaign(target, secrets.randbits(64), 30_000_000)
