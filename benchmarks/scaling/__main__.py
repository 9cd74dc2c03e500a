"""Measure how cost grows with load, and write figures and charts.

    python -m benchmarks.scaling [--only blocks,scheduler] [any setting of octavo serve]

Curves: `concurrency` and `context` (the embedded model, with the settings given), `blocks` and
`scheduler` (pure Python). For each, `<results>/scaling-<curve>.json` and `.md`, and SVG charts.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.perplexity import parse_settings

from .blocks import measure_blocks
from .curve import Curve
from .report import text_table, write_curve
from .scheduling import measure_scheduler
from .sizes import SIZES, TINY_SIZES, Sizes
from .steps import measure_concurrency, measure_context

ROOT = Path(__file__).resolve().parents[2]
CURVES: dict[str, Callable[[Sizes, dict[str, Any]], Curve]] = {
    "concurrency": measure_concurrency,
    "context": measure_context,
    "blocks": lambda sizes, settings: measure_blocks(sizes),
    "scheduler": lambda sizes, settings: measure_scheduler(sizes),
}


def main(arguments: Sequence[str]) -> None:
    """Measure the curves that the command line names, one after another."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Scaling curves; further flags are those of `octavo serve`.",
        allow_abbrev=False,
    )
    parser.add_argument("--only", default=",".join(CURVES), help="some of " + ",".join(CURVES))
    parser.add_argument("--tiny", action="store_true", help="see that it runs; means nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    options, flags = parser.parse_known_args(arguments)
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(CURVES)):
        parser.error(f"--only: no curve {', '.join(unknown)}; there are {', '.join(CURVES)}")
    try:
        settings = parse_settings(flags)
    except ValueError as error:
        parser.error(str(error))
    command = shlex.join(["python", "-m", "benchmarks.scaling", *arguments])
    for name in names:
        curve = CURVES[name](TINY_SIZES if options.tiny else SIZES, settings)
        write_curve(curve, describe_machine(), command, options.results, options.images)
        for panel in curve.panels:
            print(text_table(panel), flush=True)
        for fact, value in curve.facts.items():
            print(f"  {fact}: {value:,.4g}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
