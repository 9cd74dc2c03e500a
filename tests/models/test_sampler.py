"""The sampler: what may be drawn, how often, and that a draw belongs to its row alone."""

import math

import pytest
import torch

from octavo.models.random_numbers import gumbel_noise
from octavo.models.sampler import SamplingRow, sample
from octavo.models.sampling_spec import SamplingSpec

VOCAB = 50


def row(output: tuple[int, ...] = (), prompt: tuple[int, ...] = (1,), **spec: object):
    position = len(prompt) + len(output)
    return SamplingRow("r", SamplingSpec(**spec), position, prompt, output)  # type: ignore[arg-type]


def logits_of(num_rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((num_rows, VOCAB), generator=torch.Generator().manual_seed(seed)) * 2


def draw(logits: torch.Tensor, rows: list[SamplingRow]) -> list[int]:
    return [token.token_id for token in sample(logits.clone(), rows).tokens()]


def draws_of_one(logits: torch.Tensor, count: int, **spec: object) -> list[int]:
    """Many draws from one distribution, each with its own seed."""
    rows = [row(seed=seed * 7919, **spec) for seed in range(count)]
    return draw(logits.expand(count, VOCAB), rows)


def test_greedy_takes_the_most_likely() -> None:
    logits = logits_of(8)
    assert draw(logits, [row(temperature=0.0)] * 8) == logits.argmax(-1).tolist()


def test_draws_follow_the_softmax() -> None:
    logits = logits_of(1)
    expected = (logits[0] / 0.7).softmax(-1)
    counts = torch.bincount(
        torch.tensor(draws_of_one(logits, 20_000, temperature=0.7)), minlength=VOCAB
    )
    chi_square = ((counts - 20_000 * expected) ** 2 / (20_000 * expected)).sum()
    # 49 degrees of freedom: 99.99 % of all samples lie below 98
    assert chi_square < 98


def test_a_draw_depends_on_its_row_alone() -> None:
    logits = logits_of(6)
    rows = [row(seed=seed, temperature=0.5 + seed / 4, top_k=seed * 3) for seed in range(6)]
    together = draw(logits, rows)
    alone = [draw(logits[i : i + 1], [rows[i]])[0] for i in range(6)]
    assert together == alone
    order = [3, 0, 5, 1, 4, 2]
    assert draw(logits[order], [rows[i] for i in order]) == [together[i] for i in order]


def test_seed_and_position_each_change_the_noise() -> None:
    keys = [(seed, position) for seed in range(20) for position in range(20)]
    noise = gumbel_noise(keys, VOCAB, torch.device("cpu"))
    assert len({tuple(line) for line in noise.tolist()}) == len(keys)
    again = gumbel_noise(keys[7:8], VOCAB, torch.device("cpu"))
    assert torch.equal(again[0], noise[7])


@pytest.mark.parametrize("top_k", [1, 2, 10])
def test_top_k_keeps_the_best(top_k: int) -> None:
    logits = logits_of(1)
    kept = set(logits[0].topk(top_k).indices.tolist())
    assert set(draws_of_one(logits, 600, top_k=top_k)) == kept


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_top_p_keeps_the_fewest_that_hold_it(top_p: float) -> None:
    logits = logits_of(1)
    probabilities, ids = logits[0].softmax(-1).sort(descending=True)
    count = int((probabilities.cumsum(-1) < top_p).sum()) + 1
    drawn = set(draws_of_one(logits, 3000, top_p=top_p))
    assert drawn <= set(ids[:count].tolist())
    assert len(drawn) > count // 2


def test_top_p_counts_what_top_k_left() -> None:
    logits = torch.full((1, VOCAB), -20.0)
    logits[0, :4] = torch.tensor([0.5, 0.21, 0.19, 0.1]).log()
    # Of the two best, 0.5 holds 0.704 of the mass.
    assert set(draws_of_one(logits, 300, top_k=2, top_p=0.7)) == {0}
    assert set(draws_of_one(logits, 300, top_k=2, top_p=0.72)) == {0, 1}


def test_min_p_is_a_share_of_the_best() -> None:
    logits = torch.full((1, VOCAB), -20.0)
    logits[0, :4] = torch.tensor([0.5, 0.26, 0.2, 0.04]).log()
    assert set(draws_of_one(logits, 500, min_p=0.5)) == {0, 1}


def test_penalties_follow_their_formulas() -> None:
    logits = torch.zeros((1, VOCAB))
    logits[0, :5] = torch.tensor([4.0, 3.9, -1.0, 3.0, 2.9])
    penalised = row(output=(0, 0, 3), prompt=(1,), temperature=0.0, logprobs=0)
    repetition = row(output=(0,), prompt=(1,), temperature=0.0, repetition_penalty=2.0)
    assert draw(logits, [penalised]) == [0]
    assert draw(logits, [repetition]) == [3]  # 4 / 2 and 3.9 / 2 fall below 3
    frequency = row(output=(0, 0, 3), temperature=0.0, frequency_penalty=0.1)
    assert draw(logits, [frequency]) == [1]  # 4 - 2 * 0.1 < 3.9
    presence = row(output=(0, 0, 3), temperature=0.0, presence_penalty=0.05)
    assert draw(logits, [presence]) == [0]  # 4 - 0.05 > 3.9
    stronger = row(output=(0, 0, 3), temperature=0.0, presence_penalty=0.2)
    assert draw(logits, [stronger]) == [1]


def test_bias_allowed_and_banned_tokens() -> None:
    logits = logits_of(1)
    best = int(logits.argmax())
    assert draw(logits, [row(temperature=0.0, logit_bias=((9, 100.0),))]) == [9]
    assert draw(logits, [row(temperature=0.0, allowed_token_ids=(4, 7))])[0] in (4, 7)
    assert draw(logits, [row(temperature=0.0, bad_words=((best,),))]) != [best]
    phrase = ((8, best),)  # only after 8 would it be complete
    assert draw(logits, [row(output=(8,), temperature=0.0, bad_words=phrase)]) != [best]
    assert draw(logits, [row(output=(5,), temperature=0.0, bad_words=phrase)]) == [best]


def test_stop_tokens_are_banned_until_min_tokens() -> None:
    logits = logits_of(1)
    best = int(logits.argmax())
    spec = {"temperature": 0.0, "min_tokens": 2, "banned_until_min": (best,)}
    assert draw(logits, [row(output=(5,), **spec)]) != [best]
    assert draw(logits, [row(output=(5, 6), **spec)]) == [best]


def test_logprobs_are_those_of_the_unchanged_logits() -> None:
    logits = logits_of(3)
    expected = logits.log_softmax(-1)
    rows = [
        row(temperature=0.0, logprobs=2, logit_bias=((9, 100.0),)),
        row(temperature=0.0),
        row(temperature=1.5, top_k=3, seed=4, logprobs=0),
    ]
    first, second, third = sample(logits.clone(), rows).tokens()
    assert first.token_id == 9
    assert first.logprob == pytest.approx(float(expected[0, 9]), abs=1e-5)
    assert first.top_logprobs is not None
    values, ids = expected[0].topk(2)
    assert [token for token, _ in first.top_logprobs] == ids.tolist()
    assert [value for _, value in first.top_logprobs] == pytest.approx(values.tolist(), abs=1e-5)
    assert (second.logprob, second.top_logprobs) == (None, None)
    assert third.logprob == pytest.approx(float(expected[2, third.token_id]), abs=1e-5)
    assert third.top_logprobs == ()


def test_an_impossible_token_has_a_finite_logprob() -> None:
    logits = torch.full((1, VOCAB), -math.inf)
    logits[0, 3] = 0.0
    token = sample(logits, [row(temperature=0.0, logprobs=2)]).tokens()[0]
    assert token.top_logprobs == ((3, 0.0), (token.top_logprobs[1][0], -9999.0))
