"""How much of a decode step is spent outside the native kernels: CPU time, one thread.

    python benchmarks/host_share.py [--batch 1 32] [--json FILE]

With one thread no waiting counts, so the difference is what scheduler, layout, sampling rules and
text cost. Needs the native CPU kernels.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from octavo import LLM, SamplingParams

STEPS = 128


class Stopwatch:
    """Adds up the thread's CPU time in the functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            result = function(*arguments)
            self.seconds += time.thread_time() - began
            return result

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    llm = LLM(enable_prefix_caching=False, num_threads=1)
    operations = llm._core._runner._decoder._native
    watch = Stopwatch()
    operations.kernels = SimpleNamespace(
        **{
            name: watch.wrap(getattr(operations.kernels, name))
            for name in ("forward", "linear", "draw")
        }
    )
    params = SamplingParams(temperature=0.0, max_tokens=STEPS, ignore_eos=True)
    rows = []
    for batch in options.batch:
        prompts = [[1000 + 37 * (i + 16 * row) for i in range(16)] for row in range(batch)]
        for _ in range(2):  # the first run warms up
            watch.seconds, began = 0.0, time.thread_time()
            llm.generate(prompts, params, use_progress_bar=False)
            whole = time.thread_time() - began
        outside = whole - watch.seconds
        rows.append({"batch": batch, "step_ms": whole / STEPS * 1e3, "outside": outside / whole})
        print(
            f"{batch:4} running: {whole / STEPS * 1e3:7.2f} ms a step, "
            f"{outside / STEPS * 1e3:5.2f} ms outside the kernels ({outside / whole:.1%})"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
