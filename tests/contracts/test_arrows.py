"""Who may import whom (ARCHITECTURE.md): an arrow that is not drawn there is a failure here."""

from __future__ import annotations

import ast
import re
import sys

import sources

import memfast

NOT_IN_A_ROOM = {"__init__", "__main__"}
BINDINGS = {"_core", "_fast"}


def test_every_module_has_exactly_one_room() -> None:
    """ARCHITECTURE.md names each file of memfast/ in one room, and no file that is not there."""
    rooms = sources.rooms()
    listed = [module for modules in rooms.values() for module in modules]
    there = {path.stem for path in sources.PACKAGE.glob("*.py")} - NOT_IN_A_ROOM
    assert sorted(listed) == sorted(there)


def test_modules_import_only_what_their_room_allows() -> None:
    """Infrastructure knows errors alone, nouns no other noun; only nouns know the bindings."""
    rooms = sources.rooms()
    infrastructure = rooms["infrastructure"]
    allowed = {
        "infrastructure": {"errors"},
        "noun": infrastructure | BINDINGS,
        "handle": infrastructure | rooms["noun"],
        "composition": infrastructure | rooms["noun"] | rooms["handle"],
    }
    assert not sources.of_memfast(sources.PACKAGE / "errors.py")
    wrong = [
        f"memfast/{module}.py:{line} imports {imported}, but is in the room {room!r}"
        for room, modules in rooms.items()
        for module in sorted(modules)
        for line, imported in sources.of_memfast(sources.PACKAGE / f"{module}.py")
        if imported not in allowed[room]
    ]
    assert not wrong


def test_nouns_need_nothing_but_the_standard_library() -> None:
    """At module level memfast imports the standard library alone; NumPy comes when asked for."""
    wrong = []
    for path in sorted(sources.PACKAGE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            wrong += [
                f"{sources.relative(path)}:{node.lineno} imports {module}"
                for module in modules
                if module.split(".")[0] not in sys.stdlib_module_names | {"memfast", "__future__"}
            ]
    assert not wrong


def test_outsiders_use_public_names_only() -> None:
    """The command line, examples and benchmarks see of memfast what a user sees."""
    public = set(memfast.__all__)
    cli = sources.python_files("memfast/cli")
    outside = [
        path for folder in ("examples", "benchmarks") for path in sources.python_files(folder)
    ]
    wrong = [
        f"{sources.relative(path)}:{line} imports {name}"
        for path in cli + outside
        for line, name in sources.of_memfast(path)
        if name not in public | ({"cli"} if path in cli else set()) | {""}
    ]
    assert not wrong


def test_public_names_are_told_twice_alike() -> None:
    """The names that memfast imports lazily are those that a type checker sees."""
    tree = ast.parse((sources.PACKAGE / "__init__.py").read_text())
    seen = {
        alias.asname: (node.module or "").removeprefix("memfast.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memfast.")
        for alias in node.names
    }
    assert seen == memfast._HOMES
    assert all(getattr(memfast, name) is not None for name in memfast.__all__)


def test_one_python_file_calls_one_c_noun() -> None:
    """The functions mf_<noun>_* have one caller in Python: where they are used is where to look."""
    callers: dict[str, set[str]] = {}
    for path in sources.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("mf_"):
                noun = sources.noun_of(node.attr)
                assert noun is not None, f"{path}: {node.attr} belongs to no file of csrc/"
                callers.setdefault(noun, set()).add(sources.relative(path))
    assert callers
    assert not {noun: files for noun, files in callers.items() if len(files) > 1}


def test_the_c_core_includes_its_own_headers_only() -> None:
    """csrc/*.c knows memfast.h, layout.h, atomics.h and ring.h, and never Python."""
    own = {"memfast.h", "layout.h", "atomics.h", "ring.h"}
    for path in sorted(sources.CSRC.glob("*.[ch]")):
        quoted = set(re.findall(r'^#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE))
        angled = set(re.findall(r"^#\s*include\s+<([^>]+)>", path.read_text(), re.MULTILINE))
        assert quoted <= own, path
        assert "Python.h" not in angled, path
        assert "PyObject" not in sources.code(path), path


def test_the_extension_includes_the_core_s_interface_only() -> None:
    """csrc/fast/ sees memfast.h, not the bytes that processes share, nor how they are ordered."""
    for path in sorted(sources.FAST.glob("*.[ch]")):
        quoted = set(re.findall(r'^#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE))
        assert quoted <= {"fast.h", "memfast.h"}, path
