"""What faster options cost in quality: perplexity of a fixed English text against float32.

    python benchmarks/perplexity.py [--dtype auto] [--kv-cache-dtype …] [any other setting]
    python benchmarks/perplexity.py --dtype auto --chunk-tokens 1 --sequences 8 --windows 4

The text is cut into windows of 1,024 tokens, and each window is a request of its own through `LLM`:
scheduler, block tables, chunked prefill and paged KV cache as when serving. Perplexity is exp of
the mean negative log-likelihood (natural logarithm) of each token after a window's first, given the
tokens before it in the window. With `--chunk-tokens 1` every token is computed in a decode step,
which may use other kernels than prefill; `--sequences` windows are then computed in each step.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octavo import LLM, SamplingParams

TEXT = Path(__file__).parent / "data" / "northanger_abbey.txt"


@dataclass(frozen=True)
class Steps:
    """How the windows go through the engine."""

    window_tokens: int = 1024
    chunk_tokens: int = 512
    sequences: int = 1


@dataclass(frozen=True)
class Scores:
    """Per predicted token: negative log-likelihood (nats) and the token held most likely."""

    dtype: str
    nll: Tensor  # [predictions] float64
    likeliest: Tensor  # [predictions] int64

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood."""
        return math.exp(float(self.nll.mean()))


@dataclass(frozen=True)
class Comparison:
    """A set of options beside float32 on the same windows."""

    options: dict[str, Any]
    steps: Steps
    dtype: str
    num_predictions: int
    perplexity: float
    reference_perplexity: float
    difference_percent: float  # of perplexity; positive is worse than float32
    same_likeliest_percent: float  # predictions whose most likely token is float32's


def score(text: str, options: dict[str, Any], steps: Steps, num_windows: int | None) -> Scores:
    """Score a text's whole windows (the first `num_windows` of them) with a model loaded anew.

    `options` are fields of `Settings`. Raises ValueError if the text holds no whole window.
    """
    budget = steps.chunk_tokens * steps.sequences
    llm = LLM(
        **{
            "max_model_len": steps.window_tokens + 1,
            **options,
            "enable_prefix_caching": False,
            "max_num_seqs": steps.sequences,
            "max_num_batched_tokens": budget,
            "long_prefill_token_threshold": steps.chunk_tokens,
        }
    )
    token_ids = llm.tokenizer.encode(text, add_special_tokens=False)
    size = steps.window_tokens
    windows = [token_ids[at : at + size] for at in range(0, len(token_ids) - size + 1, size)]
    windows = windows[:num_windows]
    if not windows:
        raise ValueError(f"the text has {len(token_ids)} tokens, fewer than a window of {size}")
    params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, prompt_logprobs=1)
    nll, likeliest = [], []
    for (choice,) in llm.generate(windows, params):
        for judged in (choice.prompt_logprobs or ())[1:]:
            assert judged is not None
            nll.append(-judged.logprob)
            likeliest.append(judged.top[0].token_id)
    return Scores(
        f"{llm.config.dtype}, KV {llm.config.kv_dtype}",
        torch.tensor(nll, dtype=torch.float64),
        torch.tensor(likeliest),
    )


def compare(
    text: str, options: dict[str, Any], steps: Steps, num_windows: int | None = None
) -> Comparison:
    """Score a text with these options and in float32, both in the same steps."""
    shared = {name: value for name, value in options.items() if name in ("model", "device")}
    reference = score(text, {**shared, "dtype": "float32"}, steps, num_windows)
    measured = score(text, options, steps, num_windows)
    same = (measured.likeliest == reference.likeliest).double().mean()
    return Comparison(
        options=options,
        steps=steps,
        dtype=measured.dtype,
        num_predictions=len(measured.nll),
        perplexity=measured.perplexity,
        reference_perplexity=reference.perplexity,
        difference_percent=100 * (measured.perplexity / reference.perplexity - 1),
        same_likeliest_percent=100 * float(same),
    )


def parse_settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Fields of `Settings` from flags as `octavo serve` takes them. Raises ValueError if unclear.

    >>> parse_settings(["--dtype", "float32", "--no-enforce-eager"])
    {'dtype': 'float32', 'enforce_eager': False}
    """
    settings: dict[str, Any] = {}
    rest = [part for argument in arguments for part in argument.split("=", 1)]
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ValueError(f"{flag!r} is no flag")
        name = flag[2:].replace("-", "_")
        if rest and not rest[0].startswith("--"):
            settings[name] = rest.pop(0)
        elif name.startswith("no_"):
            settings[name[3:]] = False
        else:
            settings[name] = True
    return settings


def main() -> None:
    """Compare as the command line asks, and print the two perplexities."""
    parser = argparse.ArgumentParser(
        description="Perplexity against float32; further flags are those of `octavo serve`.",
        allow_abbrev=False,
    )
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--window-tokens", type=int, default=Steps.window_tokens)
    parser.add_argument("--windows", type=int, default=None, help="use the first so many only")
    parser.add_argument("--chunk-tokens", type=int, default=Steps.chunk_tokens)
    parser.add_argument("--sequences", type=int, default=Steps.sequences)
    parser.add_argument("--save-json", type=Path, default=None)
    options, flags = parser.parse_known_args()
    steps = Steps(options.window_tokens, options.chunk_tokens, options.sequences)
    try:
        settings = parse_settings(flags)
    except ValueError as error:
        parser.error(str(error))
    result = compare(options.text.read_text(encoding="utf-8"), settings, steps, options.windows)
    shown = " ".join(flags) or "defaults"
    print(f"{options.text.name}: {result.num_predictions:,} tokens predicted, {steps}")
    print(f"  perplexity in float32       {result.reference_perplexity:9.4f}")
    print(f"  perplexity with {shown} ({result.dtype})  {result.perplexity:.4f}")
    print(f"  difference                  {result.difference_percent:+9.3f} %")
    print(f"  same most likely token      {result.same_likeliest_percent:9.2f} %")
    if options.save_json is not None:
        options.save_json.write_text(json.dumps(asdict(result), indent=2) + "\n")


if __name__ == "__main__":
    main()
