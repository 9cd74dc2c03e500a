"""What no front end of ours would send is refused or computed, and costs nobody else a token."""

from pathlib import Path

import pytest

from octavo.engine.core import EngineCore
from octavo.engine.llm import LLM
from octavo.engine.messages import Submit
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured import StructuredOutput, ThinkingRule

MAX_MODEL_LEN = 128
VOCAB = 258  # the tiny model's: bytes, and two special tokens
MAX_TOKENS = 12


@pytest.fixture(scope="module")
def core(tiny_model: Path) -> EngineCore:
    llm = LLM(str(tiny_model), num_blocks=64, max_model_len=MAX_MODEL_LEN, device="cpu")
    assert llm.model_config.vocab_size == VOCAB
    return llm.core


def submit(prompt: list[int], *, name: str = "wild", max_tokens: int = 4, **fields) -> Submit:
    """Named arguments are fields of Submit where it has them, else sampling parameters."""
    own = {key: fields.pop(key) for key in list(fields) if key in Submit.__struct_fields__}
    params = SamplingParams(**{"ignore_eos": True, **fields})
    return Submit(name, prompt, params, max_tokens, **{"seed": 7, **own})


def add_decent(core: EngineCore) -> None:
    """Sequences that use every part of the sampler."""
    with_all = {"logit_bias": {3: 1.0}, "frequency_penalty": 0.5, "logprobs": 2, "top_k": 40}
    core.add(submit([1, 2, 3], name="greedy", max_tokens=MAX_TOKENS, temperature=0.0))
    core.add(submit([4, 5], name="drawn", max_tokens=MAX_TOKENS, seed=11, **with_all))


def run(core: EngineCore) -> dict[str, tuple[list[int], str | None]]:
    """Tokens and finish reason of everything in the engine, which has all its blocks then."""
    tokens: dict[str, list[int]] = {}
    reasons: dict[str, str | None] = {}
    while core.has_work:
        for delta in core.step().deltas:
            tokens.setdefault(delta.request_id, []).extend(delta.token_ids)
            reasons[delta.request_id] = delta.finish_reason
    stats = core.stats()
    assert (stats.blocks_used, stats.num_running, stats.num_waiting) == (0, 0, 0)
    return {name: (tokens[name], reasons[name]) for name in tokens}


@pytest.fixture(scope="module")
def undisturbed(core: EngineCore) -> dict[str, tuple[list[int], str | None]]:
    """What the decent sequences give alone."""
    add_decent(core)
    outputs = run(core)
    assert all(len(ids) == MAX_TOKENS and end == "length" for ids, end in outputs.values())
    return outputs


REGEX = StructuredOutput("regex", "[a-z]+")
REFUSED = {
    "no prompt": submit([]),
    "no prompt, and a form": submit([], structured=REGEX),
    "a token beyond": submit([1, VOCAB]),
    "a token below": submit([-1, 1]),
    "a token far beyond": submit([2**64 - 1]),
    "a token beyond, and a form": submit([VOCAB], structured=REGEX),
    "output beyond": submit([1], output_token_ids=[VOCAB]),
    "output below": submit([1], output_token_ids=[-7]),
    "all its output": submit([1], max_tokens=2, output_token_ids=[1, 2]),
    "more output than context": submit([1], max_tokens=999, output_token_ids=[1] * MAX_MODEL_LEN),
    "a bias beyond": submit([1], logit_bias={VOCAB: 1.0}),
    "a bias below": submit([1], logit_bias={-1: 1.0}),
    "allowed beyond": submit([1], allowed_token_ids=(1, VOCAB)),
    "stops beyond": submit([1], stop_token_ids=(VOCAB,), min_tokens=2),
    "a bad word beyond": submit([1], bad_words_ids=((1, VOCAB),)),
    "a bad word below": submit([1], bad_words_ids=((1,), (-1,))),
    "a bad word of nothing": submit([1], bad_words_ids=((),)),
    "more scores than tokens": submit([1], logprobs=VOCAB + 1),
    "scores of all": submit([1], logprobs=-1),
    "prompt scores of all": submit([1, 2], prompt_logprobs=-1),
    "no tokens": submit([1], max_tokens=0),
    "fewer than no tokens": submit([1], max_tokens=-3),
    "too long a prompt": submit([1] * MAX_MODEL_LEN),
}


@pytest.mark.parametrize("wild", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_computed_is_refused_and_others_go_on(
    wild: Submit, core: EngineCore, undisturbed
) -> None:
    add_decent(core)
    first = core.step().deltas
    with pytest.raises(ValueError, match=r"\w"):
        core.add(wild)
    outputs = run(core)
    for delta in first:
        outputs[delta.request_id][0][:0] = delta.token_ids
    assert outputs == undisturbed


COMPUTED = {
    "ends beyond": submit([1], eos_token_ids=(-5, VOCAB, 2**40), min_tokens=2, ignore_eos=False),
    "ends beyond, and a form": submit(
        [1],
        eos_token_ids=(-5, 2**40),
        ignore_eos=False,
        structured=REGEX,
        thinking=ThinkingRule("<think>", "</think>", budget=2, is_open=True),
    ),
    "a negative seed": submit([1], seed=-7),
    "the largest seed": submit([1], seed=2**64 - 1),
    "a wide seed": submit([1], seed=2**80),
    "first of all": submit([1], priority=-(2**63)),
    "last of all": submit([1], priority=2**64 - 1),
    "the largest k": submit([1], top_k=2**63 - 1),
    "the smallest p": submit([1], top_p=5e-324, min_p=5e-324),
    "the largest bias": submit([1], logit_bias={1: 1e308, 2: -1e308}),
    "the largest penalty": submit([1], repetition_penalty=1e308),
    "the smallest penalty": submit([1], repetition_penalty=5e-324),
    "the coldest": submit([1], temperature=1e-5),
    "scores of all by number": submit([1, 2], logprobs=VOCAB, prompt_logprobs=VOCAB),
    "never enough": submit([1], min_tokens=2**64 - 1),
    "its last token": submit([1], max_tokens=3, output_token_ids=[1, 2]),
}


@pytest.mark.parametrize("wild", COMPUTED.values(), ids=COMPUTED.keys())
def test_what_can_be_computed_is_and_others_go_on(
    wild: Submit, core: EngineCore, undisturbed
) -> None:
    add_decent(core)
    core.add(wild)
    outputs = run(core)
    tokens, reason = outputs.pop("wild")
    assert reason in ("length", "stop") and all(0 <= one < VOCAB for one in tokens)
    assert outputs == undisturbed
