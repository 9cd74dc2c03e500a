"""What a JSON schema costs: the step time of constrained decoding against free text.

    python benchmarks/constrained.py [--batch 8] [--dtype float32] [--json FILE]

Runs the embedded model through `LLM` in one process; free and constrained runs take turns, so that
a slow minute of the machine falls on both. All requests make the same number of tokens: free text
ignores its end, and the schema is an array that goes on. A step's time is the ITL of every sequence
in it. Printed is the median step of each kind, and the median over the repeats of their ratios.
Exits with 1 if that is above --limit.
"""

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

from octavo import LLM, SamplingParams, StructuredOutput
from octavo.engine.messages import StepResult

SCHEMA = {
    "type": "array",
    "minItems": 1_000_000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "kind": {"enum": ["plant", "animal", "mineral"]},
            "weight": {"type": "number", "minimum": 0, "maximum": 1000},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["name", "kind", "weight", "tags"],
        "additionalProperties": False,
    },
}


class StepClock:
    """An LLM whose steps are timed."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._seconds: list[float] = []
        self._step = llm.core.step
        llm.core.step = self._timed_step  # type: ignore[method-assign] - on purpose

    def _timed_step(self) -> StepResult:
        began = time.perf_counter()
        result = self._step()
        self._seconds.append(time.perf_counter() - began)
        return result

    def decode_seconds(self, prompts: list[list[int]], params: SamplingParams) -> list[float]:
        """Seconds of each step that decodes the whole batch."""
        self._seconds.clear()
        answers = self._llm.generate(prompts, params, use_progress_bar=False)
        lengths = {len(choice.token_ids) for choices in answers for choice in choices}
        assert lengths == {params.max_tokens}, lengths
        return self._seconds[-(params.max_tokens - 1) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--limit", type=float, default=1.05)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    llm = LLM(
        options.model,
        dtype=options.dtype,
        max_num_seqs=options.batch,
        max_model_len=32 + options.tokens,
        enable_prefix_caching=False,
    )
    clock = StepClock(llm)
    form = StructuredOutput("json_schema", json.dumps(SCHEMA))
    words = random.Random(1)
    kinds = {
        "free": SamplingParams(temperature=0.0, max_tokens=options.tokens, ignore_eos=True),
        "constrained": SamplingParams(
            temperature=0.0, max_tokens=options.tokens, ignore_eos=True, structured=form
        ),
    }
    steps: dict[str, list[float]] = {kind: [] for kind in kinds}
    ratios = []
    for repeat in range(options.repeat + 1):
        medians = {}
        prompts = [[words.randrange(1000, 40_000) for _ in range(24)] for _ in range(options.batch)]
        order = list(kinds) if repeat % 2 else list(reversed(kinds))
        for kind in order:
            seconds = clock.decode_seconds(prompts, kinds[kind])
            medians[kind] = statistics.median(seconds)
            if repeat > 0:  # the first one warms up
                steps[kind].extend(seconds)
        if repeat > 0:
            ratios.append(medians["constrained"] / medians["free"])
    ratio = statistics.median(ratios)
    print(f"{llm.config.dtype} on {llm.config.device}, {llm.config.num_threads} threads")
    print(f"batch {options.batch}, {options.tokens} tokens, {options.repeat} repeats in turns")
    for kind, seconds in steps.items():
        print(f"  {kind:<12} median step {1000 * statistics.median(seconds):8.2f} ms")
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"  constrained / free: {ratio:.3f} ({spread}; at most {options.limit})")
    if options.json is not None:
        figures = {kind: statistics.median(seconds) for kind, seconds in steps.items()}
        figures |= {"ratio": ratio}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if ratio > options.limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
