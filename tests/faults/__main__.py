"""Run drills for long, print their table, keep it: `python -m tests.faults [--only soak,disk]`."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.machine import describe_machine

from .drill_result import DrillResult
from .drill_table import merge, row_of, table, write_document
from .drills import DRILLS, surroundings

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names. Returns the exit code: 1 if a drill was not passed."""
    parser = argparse.ArgumentParser(prog="make drills ARGS=…", description=__doc__)
    parser.add_argument("--only", default=",".join(DRILLS), help="some of " + ",".join(DRILLS))
    parser.add_argument("--seed", type=int, default=1, help="makes the same faults again")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each drill's count")
    parser.add_argument("--dry", action="store_true", help="print the table, and keep nothing")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results" / "drills.json"
    )
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "reliability.md")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(DRILLS)):
        parser.error(f"--only: no drill {', '.join(unknown)}; there are {', '.join(DRILLS)}")
    machine = describe_machine()
    chip, rows, is_passed = f"{machine.chip}, {machine.cores} cores", [], True
    with surroundings() as around:
        for name in names:
            drill, began = DRILLS[name], time.monotonic()
            count = max(1, round(drill.count * options.scale))
            try:
                result = drill.run(count, options.seed, around)
            except (Exception, pytest.fail.Exception):
                traceback.print_exc()
                result = DrillResult(name, count, 0, seeds=(options.seed,), note="broke off")
            rows.append(row_of(name, result, options.seed, time.monotonic() - began, chip))
            is_passed = is_passed and result.is_passed
            print(f"{'passed' if result.is_passed else 'FAILED'}: {name}: {result}", flush=True)
            if not options.dry:
                all_rows = merge(rows, options.results, list(DRILLS))
                write_document(all_rows, options.document)
    print(table(rows))
    return 0 if is_passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
