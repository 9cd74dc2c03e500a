"""Invariant 1 on real weights: no way of serving a prompt changes its greedy tokens."""

from collections.abc import Callable
from pathlib import Path

import pytest

from octavo import LLM, SamplingParams

pytestmark = pytest.mark.slow

GREEDY = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
MakeLLM = Callable[..., LLM]


def tokens_of(llm: LLM, prompts: list[list[int]]) -> list[tuple[int, ...]]:
    completions = llm.generate(prompts, GREEDY, use_progress_bar=False)
    return [choices[0].token_ids for choices in completions]


def test_alone_then_all_at_once_then_from_cache(
    make_llm: MakeLLM,
    smollm2_gguf: Path,
    prompts: list[list[int]],
    expected: list[tuple[int, ...]],
) -> None:
    assert len(prompts) >= 20
    llm = make_llm(smollm2_gguf, enable_prefix_caching=False, kv_cache_memory="1GiB")
    for prompt, tokens in zip(prompts, expected, strict=True):
        assert tokens_of(llm, [prompt]) == [tokens]
    assert tokens_of(llm, prompts[:16]) == expected[:16]
    assert tokens_of(llm, prompts) == expected

    cached = make_llm(smollm2_gguf, kv_cache_memory="1GiB")
    assert tokens_of(cached, prompts) == expected
    again = cached.generate(prompts, GREEDY, use_progress_bar=False)
    assert [choices[0].token_ids for choices in again] == expected
    for choices in again:
        only = choices[0]
        assert only.num_cached_tokens == (only.num_prompt_tokens - 1) // 16 * 16
    assert again[-1][0].num_cached_tokens == 1488


def test_with_prompts_computed_in_chunks(
    make_llm: MakeLLM,
    smollm2_gguf: Path,
    prompts: list[list[int]],
    expected: list[tuple[int, ...]],
) -> None:
    llm = make_llm(smollm2_gguf, max_num_batched_tokens=64, max_num_seqs=32, kv_cache_memory="1GiB")
    assert tokens_of(llm, prompts) == expected


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_with_so_few_blocks_that_requests_are_preempted(
    make_llm: MakeLLM,
    smollm2_gguf: Path,
    prompts: list[list[int]],
    expected: list[tuple[int, ...]],
    enable_prefix_caching: bool,
) -> None:
    llm = make_llm(
        smollm2_gguf,
        num_blocks=110,
        max_model_len=1600,
        enable_prefix_caching=enable_prefix_caching,
    )
    # The long prompt goes first, so that the short ones fight over what it leaves.
    order = [len(prompts) - 1, *range(len(prompts) - 1)]
    tokens = tokens_of(llm, [prompts[i] for i in order])
    assert tokens == [expected[i] for i in order]
    assert llm.core.stats().num_preemptions > 0


def test_sampled_tokens_belong_to_the_request(
    make_llm: MakeLLM, smollm2_gguf: Path, prompts: list[list[int]]
) -> None:
    """Invariant 2: alone, batched, from cache and preempted, a seed gives the same tokens."""
    chosen = prompts[:12]
    each = [
        SamplingParams(temperature=0.9, top_p=0.95, top_k=50, seed=seed, max_tokens=48)
        for seed in range(12)
    ]
    roomy = make_llm(smollm2_gguf, kv_cache_memory="1GiB")
    alone = [
        roomy.generate([prompt], params, use_progress_bar=False)[0][0].token_ids
        for prompt, params in zip(chosen, each, strict=True)
    ]
    assert len(set(alone)) == len(alone)
    batched = roomy.generate(chosen, each, use_progress_bar=False)
    assert [choices[0].token_ids for choices in batched] == alone
    assert any(choices[0].num_cached_tokens for choices in batched) == any(
        len(prompt) > 16 for prompt in chosen
    )
    tight = make_llm(smollm2_gguf, num_blocks=24, max_model_len=300, async_scheduling=True)
    preempted = tight.generate(chosen, each, use_progress_bar=False)
    assert tight.core.stats().num_preemptions > 0
    assert [choices[0].token_ids for choices in preempted] == alone
