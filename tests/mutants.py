"""
Mutants: faults of a line each, put into a copy of the tree; a test must see each of them.

    mutants.py [WORD]     only the mutants whose name contains WORD

A test that passes over a fault proves nothing about what the line is there
for. Each test is first seen green without a fault, so that a mutant dies of
its fault and of nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faults
import faults_sysv
from faults import Mutant

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = shutil.ignore_patterns(
    ".venv", ".git", "build", "*.so", "*.o", "__pycache__", ".*_cache", "memfast.egg-info"
)
MUTANTS = (*faults.MUTANTS, *faults_sysv.MUTANTS)
LIMIT_SECONDS = 120  # a test that a fault makes hang is red, too


class Copy:
    """A copy of the tree, in which one file at a time is changed and restored."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, ignore=NOT_COPIED, symlinks=True)

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in a group of its own; one that hangs is killed with its children."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "PYTHONSAFEPATH": "1",
            "WARNINGS": "",  # a fault need not please the compiler
        }
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as child:
            try:
                output, _ = child.communicate(timeout=LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                output, _ = child.communicate()
                output += "\nFAILED: it hangs"
        return child.returncode, output

    def build(self) -> None:
        status, output = self.run(sys.executable, "setup.py", "-q", "build_ext", "--inplace")
        if status != 0:
            raise SystemExit(f"mutants: the copy does not build:\n{output}")

    def test(self, test: str) -> tuple[bool, str]:
        """Return whether it is red, and its output; one that cannot even start is an error."""
        if test.startswith("tests/"):
            self.build()
            status, output = self.run(
                *(sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "20", test)
            )
            if status > 1:
                raise SystemExit(f"mutants: pytest could not run {test}:\n{output}")
            if status == 0 and "passed" not in output:
                raise SystemExit(f"mutants: {test} was skipped:\n{output}")
            return status != 0, output
        status, output = self.run("tests/csrc/run", *test.split())
        red = "FAILED" in output
        if red != (status != 0):
            raise SystemExit(f"mutants: tests/csrc/run {test} ended with {status}:\n{output}")
        return red, output

    def survives(self, mutant: Mutant) -> bool:
        path = self.root / mutant.file
        whole = text = path.read_text()
        for old, new in mutant.edits:
            if text.count(old) != 1:
                raise SystemExit(
                    f"mutants: {mutant.name}: {mutant.file} holds this {text.count(old)} times, "
                    f"not once:\n{old}"
                )
            text = text.replace(old, new)
        try:
            path.write_text(text)
            return not any(self.test(mutant.test)[0] for _ in range(mutant.tries))
        finally:
            path.write_text(whole)


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in MUTANTS if word in mutant.name]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="memfast-mutants-") as folder:
        copy = Copy(Path(folder) / "tree")
        for test in dict.fromkeys(mutant.test for mutant in chosen):
            red, output = copy.test(test)
            if red:
                print(f"{output}\nred without any fault: {test}")
                return 1
        for mutant in chosen:
            start = time.monotonic()
            survived = copy.survives(mutant)
            survivors += survived
            took = time.monotonic() - start
            state = "SURVIVED" if survived else "killed"
            print(f"{state:8} {took:5.1f} s  {mutant.name}  [{mutant.test}]", flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived")
    return survivors != 0 or not chosen


if __name__ == "__main__":
    raise SystemExit(main())
