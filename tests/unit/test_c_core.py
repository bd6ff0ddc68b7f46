"""The C core's own tests, as tests/csrc/run builds and runs them: plainly and under sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "csrc" / "run"

LACKS_SOMETHING = 77  # the exit status of run(1) for it

pytestmark = [
    pytest.mark.skipif(shutil.which(os.environ.get("CC", "gcc")) is None, reason="no C compiler"),
    pytest.mark.timeout(240),
]


def run(*arguments: str) -> str:
    """Run the C tests; return what they print, or skip where the compiler lacks what they need."""
    done = subprocess.run(
        [str(RUN), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == LACKS_SOMETHING:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    return done.stdout


def passed(output: str) -> int:
    """Return how many tests the closing line counts as passed."""
    return int(output.rstrip().rsplit("\n", 1)[-1].split()[0])


@pytest.mark.parametrize("mode", ["unit", "asan"])
def test_the_c_core_holds(mode: str) -> None:
    """Ring, roles, hostile bytes, life and death, waits; no report of ASan and UBSan."""
    assert passed(run(mode)) > 40


def test_threads_on_one_mapping_do_not_race() -> None:
    """Two million messages between two threads, with hand-overs: whole, and no report of TSan."""
    assert passed(run("tsan")) >= 4
