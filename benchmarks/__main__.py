"""
Run the rows of performance.md beside the peers that are installed: the channel's, then the reads.

Contenders run in turn, the whole set several times over, and the median of the
runs counts; a ratio is the median of the ratios of one turn. Every figure comes
from the installed package, through public constructors, with checked messages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import memfast
from benchmarks import reads
from benchmarks.rows import Plan


def build_id() -> str:
    """Return the linker's build id of the extension that is timed."""
    extension = next(Path(memfast.__file__).parent.glob("_fast*.so"))
    command = ["readelf", "-n", str(extension)]
    notes = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((line.split()[-1] for line in notes.splitlines() if "Build ID" in line), "unknown")


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memfast": memfast.__version__,
        "build_id": build_id(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three turns, a tenth of the messages")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there")
    parser.add_argument(
        "--only", metavar="WORD", default="", help="only rows with this in the title"
    )
    options = parser.parse_args()
    about = machine()
    print("\n".join(f"{key:9} {value}" for key, value in about.items()))
    plan = Plan(0.1 if options.quick else 1.0)
    chosen = [row for row in plan.rows() if options.only in row.title]
    for row in chosen:
        for _ in range(3 if options.quick else 5):
            row.turn()
        row.print()
        sys.stdout.flush()
    groups = reads.run(options.only, quick=options.quick)
    for group in groups:
        group.print()
    if options.json:
        results = [
            {
                "row": row.title,
                "unit": row.unit,
                "owed": row.gate,
                "holds": row.holds(),
                **row.figures,
            }
            for row in chosen
        ]
        read = [
            {
                "read": group.name,
                "unit": "ns",
                "owed": reads.GATES.get(group.name, ("",))[0],
                "holds": group.holds(),
                **{name: cost._asdict() for name, cost in group.costs.items()},
            }
            for group in groups
        ]
        report = {"machine": about, "rows": results, "reads": read}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nwritten: {options.json}")
    missed = [row.title for row in chosen if row.holds() is False]
    missed += [group.name for group in groups if group.holds() is False]
    print(f"\n{len(chosen) + len(groups)} rows, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
