"""The C core: bound whole, without state of its own, atomic only in one place."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import core_stub
import pytest
import sources
import support

from memfast._core import lib

if TYPE_CHECKING:
    from pathlib import Path


def test_every_declared_function_is_bound() -> None:
    """memfast._core.lib has each function of memfast.h, and no other."""
    assert {name for name in dir(lib) if name.startswith("mf_")} == sources.header_functions()


def test_the_stub_is_what_the_module_says() -> None:
    """memfast/_core.pyi is as `make stub` would write it now."""
    assert core_stub.STUB.read_text() == core_stub.stub(), "run: make stub"


def test_the_mark_of_our_segments_is_the_one_the_leak_check_looks_for() -> None:
    """tests/support.py knows our segments by the mark that csrc/layout.h gives them."""
    found = re.search(r"MF_SEGMENT_MARK = (\d+)", (sources.CSRC / "layout.h").read_text())
    assert found is not None
    assert int(found[1]) == support.SEGMENT_MARK


def symbols(noun: str, folder: Path) -> list[tuple[str, str]]:
    """Compile one file and return (kind, name) of what it defines, as nm(1) says."""
    target = folder / f"{noun}.o"
    # Not position-independent: there nm calls a const table of pointers data (.data.rel.ro).
    build = ["gcc", "-std=c11", "-O2", "-fno-pic", "-fno-pie", "-c", f"csrc/{noun}.c", "-o", target]
    subprocess.run(build, cwd=sources.ROOT, check=True, timeout=60)
    listing = subprocess.run(
        ["nm", "--defined-only", target], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [(line.split()[1], line.split()[2]) for line in listing.splitlines()]


@pytest.mark.parametrize("noun", sources.C_NOUNS)
def test_a_noun_keeps_no_state_and_defines_its_own_name_only(noun: str, tmp_path: Path) -> None:
    """Two .so files link each C file: it has no data that could differ between them."""
    defined = symbols(noun, tmp_path)
    assert not [name for kind, name in defined if kind in "bBdDC"], "mutable data at file scope"
    external = {name for kind, name in defined if kind.isupper()}
    assert external, "defines nothing"
    assert {sources.noun_of(name) for name in external} == {noun}
    assert external <= sources.header_functions(), "external, but not in memfast.h"


def test_atomics_are_spelled_in_one_place() -> None:
    """Only atomics.h says __atomic, __sync or volatile, so no order hides elsewhere."""
    pattern = re.compile(r"\b(?:__atomic\w*|__sync\w*|volatile|_Atomic|stdatomic)\b")
    wrong = [
        f"{sources.relative(path)}:{number}: {line.strip()}"
        for path in sources.C_SOURCES
        if path.name != "atomics.h"
        for number, line in enumerate(sources.code(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not wrong
    assert pattern.search(sources.code(sources.CSRC / "atomics.h"))
