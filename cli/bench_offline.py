"""`octavo bench latency` and `octavo bench throughput`: the engine without HTTP, through `LLM`."""

import time
from dataclasses import dataclass
from random import Random

from ..engine.llm import LLM
from ..engine.sampling_params import SamplingParams


@dataclass(frozen=True)
class OfflineRun:
    """One call of `LLM.generate`: how long it took and what it computed."""

    seconds: float
    num_requests: int
    input_tokens: int
    output_tokens: int


def generate_batch(
    llm: LLM, *, batch_size: int, input_len: int, output_len: int, seed: int | str
) -> OfflineRun:
    """Complete `batch_size` prompts of random token ids, `output_len` tokens each, and time it.

    Another seed gives other prompts, so that none is found in the prefix cache.
    """
    random = Random(f"offline {seed}")
    limit = llm.model_config.vocab_size
    prompts = [[int(random.random() * limit) for _ in range(input_len)] for _ in range(batch_size)]
    params = SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True)
    began = time.perf_counter()
    choices = llm.generate(prompts, params, use_progress_bar=False)
    seconds = time.perf_counter() - began
    output_tokens = sum(len(one.token_ids) for answer in choices for one in answer)
    return OfflineRun(seconds, batch_size, batch_size * input_len, output_tokens)
