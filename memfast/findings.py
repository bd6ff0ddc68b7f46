"""What doctor() finds, and how its figures are written."""

from __future__ import annotations

from memfast.records import NamedTuple

__all__ = ["Finding", "share", "size"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    severity: str  # "ok"; "note": good to know; "warning": something will fail, or has to be slow
    what: str  # what was looked at
    figure: str  # how it is
    advice: str  # what follows, and what to do; "" if nothing


def size(number: int) -> str:
    """Print bytes short: 64M, 1.5G."""
    exponent = min((max(number, 1).bit_length() - 1) // 10, 6)
    value = number / (1 << 10 * exponent)
    return f"{value:.{0 if value >= 10 or value == int(value) else 1}f}{'BKMGTPE'[exponent]}"


def share(part: int, whole: int) -> str:
    """Print a part in percent."""
    return f"{100 * part / whole:.0f}%" if whole else "0%"
