"""`--deterministic` on a CPU: packed weights and all, a request's bits do not depend on others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from octavo import LLM, SamplingParams
from octavo.engine.devices import has_native_kernels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_native_kernels(64), reason="the native kernels were not compiled"),
]

PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time there was a lighthouse keeper who " * 12,  # several chunks of 32
    "1, 2, 3, 4,",
]
PARAMS = SamplingParams(temperature=0.7, seed=5, max_tokens=24, logprobs=2, ignore_eos=True)
Bits = list[tuple[tuple[int, ...], object]]


def bits_of(llm: LLM, prompts: list[str]) -> Bits:
    completions = llm.generate(prompts, PARAMS, use_progress_bar=False)
    return [(choice.token_ids, choice.logprobs) for (choice,) in completions]


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_bits_are_the_same_alone_in_a_batch_in_chunks_and_from_cache(
    make_llm: Callable[..., LLM], smollm2_gguf: Path, dtype: str
) -> None:
    settings = {"dtype": dtype, "deterministic": True, "kv_cache_memory": "256MiB"}
    llm = make_llm(smollm2_gguf, enable_prefix_caching=False, **settings)
    alone = [bits for prompt in PROMPTS for bits in bits_of(llm, [prompt])]
    assert len({token_ids for token_ids, _ in alone}) == len(PROMPTS)
    assert all(logprobs for _, logprobs in alone)
    assert bits_of(llm, PROMPTS) == alone
    chunked = make_llm(smollm2_gguf, max_num_batched_tokens=32, max_num_seqs=8, **settings)
    assert bits_of(chunked, PROMPTS) == alone
    assert bits_of(chunked, list(reversed(PROMPTS))) == alone[::-1]  # from cache
    one_thread = make_llm(smollm2_gguf, num_threads=1, **settings)
    assert bits_of(one_thread, PROMPTS) == alone
