"""How ``ls`` and ``reap`` print objects."""

from __future__ import annotations

import pwd

_UNITS = "BKMGTPE"


def size_text(size: int) -> str:
    """Print bytes in at most five characters: 4096B, 260K, 1.5G."""
    exponent = 0
    while size >= 10_000 << 10 * exponent and exponent < len(_UNITS) - 1:
        exponent += 1
    if size >= 1024 << 10 * exponent and size % (1024 << 10 * exponent) == 0:
        exponent += 1  # 65536: 64K
    unit = 1 << 10 * exponent
    return f"{(size + unit // 2) // unit}{_UNITS[exponent]}"


def age_text(seconds: float) -> str:
    """Print a time in its largest unit: 12s, 5m, 3h, 40d."""
    for unit, length in ("d", 86400), ("h", 3600), ("m", 60):
        if seconds >= 2 * length:
            return f"{int(seconds / length)}{unit}"
    return f"{int(seconds)}s"


def user_text(uid: int) -> str:
    """Print a user's name; the number if there is none, or if it is too long for a column."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= 8 else str(uid)


def safe(text: str) -> str:
    """Print what others have named so that it neither breaks a line nor steers a terminal."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def maybe(value: int | None) -> str:
    """Print a number, or a dash for what is not known."""
    return "-" if value is None else str(value)
