"""csrc/probe.c in Python: what of the kernel memfast can use here."""

from __future__ import annotations

from memfast._core import lib
from memfast.records import NamedTuple

__all__ = ["FEATURES", "Feature", "attempt"]


class Feature(NamedTuple):
    """Something that newer kernels have and that a container may take away."""

    name: str
    number: int
    since: str  # the first Linux that has it
    without: str  # what becomes of memfast where it is missing
    matters: bool  # whether that is worth a warning


FEATURES = (
    Feature(
        "membarrier(2)",
        lib.MF_PROBE_MEMBARRIER,
        "4.16",
        "each send costs a fence more, and sleepers look every 10 ms",
        True,
    ),
    Feature(
        "pidfd_open(2)",
        lib.MF_PROBE_PIDFD,
        "5.3",
        "deaths are seen by looking every 50 ms, and a zombie only through /proc",
        True,
    ),
    Feature(
        "sealed memfds",
        lib.MF_PROBE_SEALS,
        "3.17",
        "MemoryMap.create() without a name fails; give it a name",
        True,
    ),
    Feature(
        "MADV_POPULATE_WRITE",
        lib.MF_PROBE_POPULATE,
        "5.14",
        "memory is reserved page by page, and a full machine may kill instead of refuse",
        True,
    ),
    Feature(
        "cachestat(2)",
        lib.MF_PROBE_CACHESTAT,
        "6.5",
        "the page cache is asked by mincore(2), which knows of no dirty pages and"
        " tells nothing of files that others own",
        False,
    ),
    Feature(
        "futex_waitv(2)",
        lib.MF_PROBE_WAITV,
        "5.16",
        "nothing today; waiting for several objects at once will need it",
        False,
    ),
    Feature(
        "user namespaces",
        lib.MF_PROBE_USERNS,
        "3.8",
        "nothing; who is not root cannot try things out with `unshare -Uri`",
        False,
    ),
)


def attempt(feature: Feature) -> int:
    """Try a feature on something small of our own: 0, or a negative errno. Leaves nothing."""
    return int(lib.mf_probe_try(feature.number))
