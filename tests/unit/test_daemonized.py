"""After a daemonizer closed every descriptor: nothing of the program's is written to or closed."""

from __future__ import annotations

import support

# A watch whose three numbers become the program's own file; close() must leave that alone.
WATCH = """
import os, sys
from memfast import stats
try:
    watch = stats.pressure_watch("memory", 1, 10)
except (PermissionError, OSError) as error:
    print("skipped", error)
    raise SystemExit
os.closerange(3, 256)
if sys.argv[1] == "reused":
    for _ in range(12):
        log = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
watch.close()
watch.close()
del watch
if sys.argv[1] == "reused":
    assert os.pread(log, 100, 0) == b"", "something was written"
    for number in range(3, 15):
        os.fstat(number)
print("held")
"""


def test_a_pressure_watch_leaves_strangers_alone(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Its close() neither raises nor writes to, nor closes, what has its numbers now."""
    for how in "reused", "closed":
        assert support.run_python(WATCH, how, tmp_path / "log").split()[0] in ("held", "skipped")
