"""Log-probabilities of prompts: those of the plain model, however the prompt is computed."""

from pathlib import Path

import pytest
import torch

from octavo import LLM, SamplingParams

PARAMS = SamplingParams(temperature=0.0, max_tokens=4, prompt_logprobs=3)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def some_prompts(prompts: list[list[int]]) -> list[list[int]]:
    return [*prompts[:6], prompts[-1][:200]]


@pytest.fixture(scope="module")
def reference(smollm2_gguf: Path, some_prompts: list[list[int]]) -> list[torch.Tensor]:
    """For each prompt, log-probabilities [tokens - 1, vocab] of what may follow each token."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    )
    with torch.inference_mode():
        return [model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1) for ids in some_prompts]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_num_batched_tokens": 16, "max_num_seqs": 8},  # in chunks
        {"num_blocks": 16, "max_model_len": 240, "block_size": 16},  # with preemptions or waiting
    ],
    ids=["whole", "chunked", "scarce"],
)
def test_they_are_the_plain_model_s(
    make_llm, smollm2_gguf, some_prompts, reference, settings
) -> None:
    llm: LLM = make_llm(smollm2_gguf, **settings)
    warm = SamplingParams(temperature=0.0, max_tokens=4)
    plain = llm.generate(some_prompts, warm, use_progress_bar=False)  # fills the cache
    judged = llm.generate(some_prompts, PARAMS, use_progress_bar=False)
    for ids, expected, (choice,), (same,) in zip(
        some_prompts, reference, judged, plain, strict=True
    ):
        assert choice.token_ids == same.token_ids
        assert choice.num_cached_tokens == 0  # a cached token has no logits any more
        scores = choice.prompt_logprobs
        assert scores is not None and len(scores) == len(ids) and scores[0] is None
        for position, score in enumerate(scores[1:]):
            assert score is not None and score.token_id == ids[position + 1]
            assert score.logprob == pytest.approx(
                expected[position, score.token_id].item(), abs=1e-3
            )
            best = expected[position].topk(3).values.tolist()
            assert [top.logprob for top in score.top] == pytest.approx(best, abs=1e-3)


def test_every_choice_has_them_and_an_ordinary_one_none(make_llm, smollm2_gguf) -> None:
    llm: LLM = make_llm(smollm2_gguf)
    params = SamplingParams(n=2, seed=1, max_tokens=3, prompt_logprobs=0)
    (choices,) = llm.generate("One two three", params, use_progress_bar=False)
    scores = [choice.prompt_logprobs for choice in choices]
    assert scores[0] is not None and scores[0] == scores[1]
    assert all(score is None or score.top == () for score in scores[0])
    ((plain,),) = llm.generate(
        "One two three", SamplingParams(max_tokens=3), use_progress_bar=False
    )
    assert plain.prompt_logprobs is None
