"""Files and functions stay short: one that outgrows its room usually holds two things."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import sources

if TYPE_CHECKING:
    from pathlib import Path

FUNCTION_LINES = 70


def too_long(paths: list[Path], bound: int) -> dict[str, int]:
    assert paths
    counts = {sources.relative(path): len(path.read_text().splitlines()) for path in paths}
    return {path: lines for path, lines in counts.items() if lines >= bound}


def test_c_files_are_short() -> None:
    """A C file has fewer than 400 lines, a test in C fewer than 500."""
    assert not too_long([path for path in sources.C_SOURCES if path.suffix == ".c"], 400)
    assert not too_long(list(sources.ROOT.glob("tests/csrc/*.c")), 500)


def test_python_files_are_short() -> None:
    """A Python file has fewer than 300 lines, a test or a benchmark fewer than 500."""
    ours = [*sources.python_files("memfast"), *sources.python_files("examples")]
    assert not too_long([*ours, sources.ROOT / "setup.py", sources.CSRC / "build_core.py"], 300)
    assert not too_long([*sources.python_files("tests"), *sources.python_files("benchmarks")], 500)


def test_c_functions_are_short() -> None:
    """A C function has fewer than 70 lines between its braces."""
    long = []
    for path in sources.C_SOURCES:
        start = 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start >= FUNCTION_LINES:
                    long.append(f"{sources.relative(path)}:{start}: {number - start} lines")
                start = 0
    assert not long


def test_python_functions_are_short() -> None:
    """A Python function has fewer than 70 lines, its docstring included."""
    long = [
        f"{sources.relative(path)}:{node.lineno}: {node.name}"
        for folder in ("memfast", "examples", "benchmarks", "tests")
        for path in sources.python_files(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert not long
