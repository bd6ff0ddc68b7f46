"""The tree as the contract tests read it: files, imports, C code without comments."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
FAST = CSRC / "fast"
PACKAGE = ROOT / "memfast"

C_NOUNS = sorted(path.stem for path in CSRC.glob("*.c"))
C_SOURCES = sorted([*CSRC.glob("*.[ch]"), *FAST.glob("*.[ch]")])


class Import(NamedTuple):
    """One imported name: ``from memfast import errors`` is ("memfast", "errors")."""

    line: int
    module: str
    name: str


def relative(path: Path) -> str:
    """Return the path as a reader of the repository knows it."""
    return str(path.relative_to(ROOT))


def python_files(folder: str) -> list[Path]:
    """Return the Python files of a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> list[Import]:
    """Return all that a file imports, inside functions and under TYPE_CHECKING too."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*base, *([module] if module else [])])
            found += [Import(node.lineno, module, alias.name) for alias in node.names]
    return found


def of_memfast(path: Path) -> list[tuple[int, str]]:
    """Return (line, module or name inside memfast) for each import of memfast's own."""
    found = []
    for line, module, name in imports(path):
        if module == "memfast":
            found.append((line, name))
        elif module.startswith("memfast."):
            found.append((line, module.split(".")[1]))
    return found


def rooms() -> dict[str, set[str]]:
    """Return which modules of memfast live in which room, as ARCHITECTURE.md says."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(
        r"^\| (infrastructure|noun|handle|composition) \| ([^|]*)\|", text, re.MULTILINE
    )
    return {room: set(re.findall(r"`(\w+)\.py`", files)) for room, files in rows}


def code(path: Path) -> str:
    """Return C code with its comments blanked; the lines keep their numbers."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(r"/\*.*?\*/", blank, path.read_text(), flags=re.DOTALL)


def header_functions() -> set[str]:
    """Return the functions that memfast.h declares."""
    return set(re.findall(r"\b(mf_\w+)\(", code(CSRC / "memfast.h")))


def noun_of(function: str, nouns: list[str] = C_NOUNS) -> str | None:
    """Return the C noun that a function's name says: mf_<noun>_<verb>."""
    fitting = [noun for noun in nouns if function.startswith(f"mf_{noun}_")]
    return max(fitting, key=len, default=None)
