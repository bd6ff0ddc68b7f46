"""What a user installs: the right version, a cheap import, a README whose code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import sources
import support

import memfast

README = sources.ROOT / "README.md"


def readme_blocks() -> list[str]:
    text = README.read_text() if README.exists() else ""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_readme_shows_python() -> None:
    """A newcomer finds a runnable example in README.md."""
    assert readme_blocks()


@pytest.mark.parametrize("block", readme_blocks())
def test_readme_code_runs(block: str, tmp_path: Path) -> None:
    """Each Python block of README.md runs as it stands, as a program of its own."""
    program = tmp_path / "example.py"
    program.write_text(block)
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_is_told_twice_alike() -> None:
    """pyproject.toml and memfast.__version__ agree."""
    project = tomllib.loads((sources.ROOT / "pyproject.toml").read_text())["project"]
    assert memfast.__version__ == project["version"]


@pytest.mark.parametrize("statement", ["import memfast", "from memfast import Channel"])
def test_importing_is_cheap(statement: str) -> None:
    """Neither the package nor its main class brings in a module that costs milliseconds."""
    heavy = {"numpy", "rich", "dataclasses", "multiprocessing", "asyncio", "inspect", "cffi"}
    loaded = support.run_python(f"import sys; {statement}; print(*sys.modules)").split()
    assert "memfast" in loaded
    assert not heavy & set(loaded)


IN_A_SUB_INTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
exec(sys.argv[1])
code = '''
try:
    from memfast import Channel
except ImportError as error:
    print("refused:", error)
else:
    print("imported")
'''
which = interpreters.create()
failed = interpreters.run_string(which, code)
assert failed is None, failed
interpreters.destroy(which)
"""


@pytest.mark.parametrize("first", ["pass", "from memfast import Channel"])
def test_a_sub_interpreter_is_refused(first: str) -> None:
    """There memfast is an ImportError, also when the main interpreter has loaded it before."""
    printed = support.run_python(IN_A_SUB_INTERPRETER, first)
    assert printed.startswith("refused:")
    assert "interpreter" in printed


def installed_wheel() -> str:
    """Return the WHEEL file of what is tested; skip where the tests run against a source tree."""
    if os.environ.get("PYTHONPATH"):
        pytest.skip("run by hand against the tree in PYTHONPATH; `make test` installs the wheel")
    try:
        return distribution("memfast").read_text("WHEEL") or ""
    except PackageNotFoundError:
        pytest.fail("memfast is not installed: run `make test`")


def test_what_is_tested_is_what_is_installed() -> None:
    """The tests import the installed wheel, not the source tree beside them."""
    installed_wheel()
    assert sources.ROOT / "memfast" not in Path(memfast.__file__).parents


def test_one_wheel_serves_every_python_from_3_11() -> None:
    """The wheel is tagged cp311-abi3, and so are both of its extension modules."""
    assert "Tag: cp311-abi3-linux" in installed_wheel()
    modules = sorted(path.name for path in Path(memfast.__file__).parent.glob("*.so"))
    assert modules == ["_core.abi3.so", "_fast.abi3.so"]


def test_the_extensions_keep_to_the_limited_api() -> None:
    """No symbol of CPython's private interface, which another version may lack, is asked for."""
    # The few underscored names that the stable ABI itself exports: macros expand to them.
    stable = {"_Py_Dealloc", "_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct"}
    stable |= {"_Py_IncRef", "_Py_DecRef", "_Py_NotImplementedStruct", "_Py_EllipsisObject"}
    stable |= {"_PyObject_New"}
    for module in Path(memfast.__file__).parent.glob("*.so"):
        listing = subprocess.run(
            ["nm", "-D", "--undefined-only", module], capture_output=True, text=True, check=True
        ).stdout
        private = {word for word in listing.split() if word.startswith("_Py")} - stable
        assert not {word for word in private if not word.endswith("_SizeT")}, module
