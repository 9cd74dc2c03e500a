"""How fast one step is: prefill and decode of the embedded model through `LLM`, by batch size.

    python benchmarks/step_time.py [--dtype bfloat16] [--model PATH] [--json FILE]

Prints tokens/s of prefill (one prompt of 512 tokens) and of decode at several batch sizes. Figures
are medians of `--repeat` runs; compare them only within one run of one machine.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from octavo import LLM, SamplingParams

BATCH_SIZES = (1, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    llm = LLM(options.model, dtype=options.dtype, enable_prefix_caching=False)
    words = random.Random(1)
    figures: dict[str, float] = {}

    def seconds(batch: int, prompt: int, output: int) -> float:
        runs = []
        for _ in range(options.repeat):
            prompts = [[words.randrange(1000, 40000) for _ in range(prompt)] for _ in range(batch)]
            params = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
            began = time.perf_counter()
            llm.generate(prompts, params, use_progress_bar=False)
            runs.append(time.perf_counter() - began)
        return statistics.median(runs)

    seconds(1, 16, 4)
    prefill = seconds(1, options.prompt_tokens, 1)
    figures[f"prefill {options.prompt_tokens}"] = options.prompt_tokens / prefill
    for batch in BATCH_SIZES:
        short = seconds(batch, 32, 1)
        whole = seconds(batch, 32, options.output_tokens + 1)
        figures[f"decode batch {batch}"] = batch * options.output_tokens / (whole - short)
    print(f"{llm.config.dtype} on {llm.config.device}, {llm.config.num_threads} threads")
    for name, rate in figures.items():
        print(f"  {name:<16} {rate:8.1f} tokens/s")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
