"""Every ordered access names its partner, and docs/memory-model.md explains each pair."""

from __future__ import annotations

import re

import sources

LABEL = re.compile(r"/\* SYNC ([a-z][a-z-]*)(?=[ :])")
MODEL = sources.ROOT / "docs" / "memory-model.md"


def ordered_functions() -> dict[str, str]:
    """Return the functions of atomics.h that order something, and which sides they can be."""
    header = sources.code(sources.CSRC / "atomics.h")
    bodies = re.findall(r"\b(mf_\w+)\([^)]*\)\n\{\n(.*?)\n\}", header, re.DOTALL)
    sides = {}
    for name, body in bodies:
        if "fence" in name or "ACQ_REL" in body or "SEQ_CST" in body:
            sides[name] = "both"
        elif "__ATOMIC_RELEASE" in body:
            sides[name] = "release"
        elif "__ATOMIC_ACQUIRE" in body:
            sides[name] = "acquire"
    return sides


def uses() -> list[tuple[str, str | None, str]]:
    """Return (place, label, side) of each ordered access in the C core."""
    sides = ordered_functions()
    call = re.compile(r"\b(" + "|".join(sides) + r")\(")
    found = []
    for path in sources.C_SOURCES:
        if path.name == "atomics.h":
            continue
        bare, whole = sources.code(path), path.read_text()
        for match in call.finditer(bare):
            # The label may stand on any line of the call.
            end = whole.index("\n", closing(bare, match.end()))
            label = LABEL.search(whole, whole.rindex("\n", 0, match.start()), end)
            place = f"{sources.relative(path)}:{bare.count(chr(10), 0, match.start()) + 1}"
            found.append((place, label[1] if label else None, sides[match[1]]))
    return found


def closing(text: str, start: int) -> int:
    """Return where the parenthesis closes that was opened just before *start*."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError("unbalanced parentheses")


def test_the_scan_sees_the_ordered_functions() -> None:
    """The list is read from atomics.h; acquire, release, swap and fence are all there."""
    sides = ordered_functions()
    assert sides["mf_load_acquire"] == "acquire"
    assert sides["mf_store_release"] == "release"
    assert sides["mf_swap_if_acq_rel"] == sides["mf_fence_full"] == "both"
    assert "mf_load_relaxed" not in sides


def test_every_ordered_access_has_a_label() -> None:
    """An acquire, a release or a fence without a SYNC label on its line is an accident."""
    assert not [place for place, label, _ in uses() if label is None]


def test_every_label_stands_on_both_sides() -> None:
    """A release that nobody acquires, or an acquire of what nobody releases, orders nothing."""
    by_label: dict[str, list[str]] = {}
    for _, label, side in uses():
        if label is not None:
            by_label.setdefault(label, []).append(side)
    assert by_label
    for label, sides in by_label.items():
        assert len(sides) > 1, f"{label} stands alone"
        assert {"release", "both"} & set(sides), f"nobody releases {label}"
        assert {"acquire", "both"} & set(sides), f"nobody acquires {label}"


def test_labels_and_the_sections_of_the_memory_model_are_the_same() -> None:
    """docs/memory-model.md has one section per label and none for a label that is gone."""
    sections = re.findall(r"^## SYNC (\S+)$", MODEL.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted({label for _, label, _ in uses() if label})
