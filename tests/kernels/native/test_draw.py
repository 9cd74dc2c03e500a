"""Tokens drawn by the kernels: those of the torch sampler, but where rounding alone decides."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.kernels.cpu.operations import DrawRule, NativeOperations
from octavo.models.random_numbers import gumbel_noise, mix_key
from octavo.models.sampler import SamplingRow, draw
from octavo.models.sampling_spec import SamplingSpec
from octavo.models.token_masks import forbid

NEVER = float("-inf")
VOCABULARIES = [1, 2, 7, 8, 15, 16, 17, 33, 1003]
GREEDY = DrawRule(0.0, 0, 1.0, 0.0, 0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rule_of(row: SamplingRow) -> DrawRule:
    spec = row.spec
    key = mix_key(spec.seed, row.position)
    return DrawRule(spec.temperature, spec.top_k, spec.top_p, spec.min_p, key)


def rules(count: int, **options: float) -> list[DrawRule]:
    """So many rows of one rule, each with its own random numbers."""
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **options}
    return [DrawRule(key=mix_key(7, position), **values) for position in range(count)]


def test_greedy_takes_the_first_of_the_most_likely(native: NativeOperations) -> None:
    generator = torch.Generator().manual_seed(0)
    for vocab in VOCABULARIES:
        logits = torch.randint(-3, 3, (200, vocab), generator=generator).float()
        drawn = native.draw(logits, [GREEDY] * 200)
        assert drawn.dtype == torch.int64
        assert np.array_equal(
            drawn.numpy(), logits.numpy().argmax(axis=1)
        )  # the first, by contract
        for place in range(min(vocab, 40)):
            logits = torch.full((1, vocab), -5.0)
            logits[0, place] = -4.0
            assert native.draw(logits, [GREEDY]).tolist() == [place]


def test_masks_forbid_what_torch_forbids(native: NativeOperations) -> None:
    generator = torch.Generator().manual_seed(5)
    for vocab in [*VOCABULARIES, 31, 32, 64, 1000]:
        num_words = -(-vocab // 32)
        words = torch.randint(-(2**31), 2**31, (3, num_words), generator=generator)
        words[0], words[1, ::2] = -1, 0
        words, rows = words.to(torch.int32), torch.tensor([4, 0, 2])
        logits = random(5, vocab)
        expected = logits.clone()
        forbid(expected, rows, words)
        native.forbid(logits, rows, words)
        assert torch.equal(logits, expected)
        assert not logits[4].isinf().any() and logits[0, : min(vocab, 32)].isinf().all()


def test_masks_of_a_wrong_shape_are_refused(native: NativeOperations) -> None:
    logits, rows, words = random(2, 40), torch.tensor([1]), torch.zeros(1, 2, dtype=torch.int32)
    native.forbid(logits, rows, words)
    for wrong in (
        (logits, torch.tensor([2]), words),
        (logits, torch.tensor([-1]), words),
        (logits, rows, words[:, :1]),
        (logits, rows, words.long()),
        (logits.T, rows, words),
        (logits.double(), rows, words),
    ):
        with pytest.raises(ValueError, match="must be"):
            native.forbid(*wrong)


def test_forbidden_tokens_are_not_taken(native: NativeOperations) -> None:
    for vocab in VOCABULARIES:
        for place in {0, vocab // 2, vocab - 1}:
            logits = torch.full((3, vocab), NEVER)
            logits[:, place] = -1e30
            drawn = native.draw(logits, [GREEDY, *rules(1), *rules(1, top_k=5, top_p=0.5)])
            assert drawn.tolist() == [place] * 3


def test_a_row_without_any_token_gives_the_first(native: NativeOperations) -> None:
    """As torch's argmax does. The engine never asks, but memory must hold."""
    logits = torch.full((4, 37), NEVER)
    some = [GREEDY, *rules(1), *rules(1, top_k=3), *rules(1, top_p=0.5, min_p=0.1)]
    assert native.draw(logits, some).tolist() == [0] * 4


def settings() -> list[SamplingSpec]:
    choices = product((0.3, 0.7, 1.0, 1.7), (0, 1, 5, 50, 2000), (1.0, 0.95, 0.5, 0.05), (0, 0.02))
    return [
        SamplingSpec(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        for seed, (temperature, top_k, top_p, min_p) in enumerate(choices)
    ]


def is_within_rounding(logits: Tensor, row: SamplingRow, token: int) -> bool:
    """Whether float64 puts `token` so near to the winner, or to the edge, that float32 may differ.

    The edge is where the kept tokens end: of min_p, or of top_p of what top_k left.
    """
    spec, slack = row.spec, 1e-4
    values = logits.double() / spec.temperature
    noise = gumbel_noise([(spec.seed, row.position)], len(values), logits.device)[0].double()
    ordered = values.sort(descending=True).values
    floor = ordered[0] + (math.log(spec.min_p) if spec.min_p else -math.inf)
    kept = ordered[ordered >= floor - slack]
    kept = kept[: spec.top_k or None]
    shares = kept.softmax(0).cumsum(0)
    surely = kept[0 if spec.top_p < 1.0 else -1 :][:1].item()
    possibly = kept[-1].item()
    if spec.top_p < 1.0:
        surely = kept[min(int((shares < spec.top_p - slack).sum()), len(kept) - 1)].item()
        possibly = kept[min(int((shares < spec.top_p + slack).sum()), len(kept) - 1)].item()
    if spec.min_p:
        surely = max(surely, float(floor) + slack)
    best = (values + noise)[values >= surely].max()
    is_kept = bool(values[token] >= possibly - slack)
    return is_kept and bool(values[token] + noise[token] >= best - slack)


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_draws_are_those_of_the_torch_sampler(native: NativeOperations, spread: float) -> None:
    vocab, specs = 1003, settings()
    rows = [SamplingRow("", spec, position, (), ()) for position in range(16) for spec in specs]
    logits = random(len(rows), vocab, seed=int(spread)) * spread
    expected = draw(logits.clone(), rows)
    kept = logits.clone()
    drawn = native.draw(logits, [rule_of(row) for row in rows])
    assert torch.equal(logits, kept)
    different = (drawn != expected).nonzero().flatten().tolist()
    assert len(different) <= len(rows) / 1000
    for index in different:
        assert is_within_rounding(logits[index], rows[index], int(drawn[index])), rows[index]


def test_rounding_excuses_no_other_token() -> None:
    """The judge of the test above: it accepts what the sampler drew, and little else."""
    specs = settings()
    logits = random(len(specs), 1003, seed=3) * 4
    rows = [SamplingRow("", spec, 0, (), ()) for spec in specs]
    drawn = draw(logits.clone(), rows).tolist()
    for index, token in enumerate(drawn):
        assert is_within_rounding(logits[index], rows[index], token)
        others = [(token + step) % 1003 for step in (1, 2, 500)]
        assert not any(is_within_rounding(logits[index], rows[index], other) for other in others)


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_plain_draws_in_every_vocabulary(native: NativeOperations, vocab: int) -> None:
    rows = [SamplingRow("", SamplingSpec(seed=5), position, (), ()) for position in range(300)]
    logits = random(300, vocab)
    expected = draw(logits.clone(), rows)
    drawn = native.draw(logits, [rule_of(row) for row in rows])
    assert (drawn != expected).sum() <= 1


def test_draws_follow_the_softmax(native: NativeOperations) -> None:
    vocab, count = 50, 20_000
    logits = random(1, vocab) * 2
    expected = (logits[0] / 0.7).softmax(-1) * count
    drawn = native.draw(logits.expand(count, vocab), rules(count, temperature=0.7))
    counts = torch.bincount(drawn, minlength=vocab)
    # 49 degrees of freedom: 99.99 % of all samples lie below 98
    assert ((counts - expected) ** 2 / expected).sum() < 98


def test_draws_follow_the_softmax_of_what_is_kept(native: NativeOperations) -> None:
    count = 20_000
    logits = torch.tensor([[0.35, 0.25, 0.2, 0.1, 0.06, 0.04]]).log()
    cases = [
        ({"top_k": 3}, 3),
        ({"top_p": 0.9}, 4),  # 0.8 and 0.1 hold 0.9 but for rounding
        ({"top_p": 0.61}, 3),
        ({"min_p": 0.25}, 4),
        ({"min_p": 0.1, "top_k": 4, "top_p": 0.5}, 2),
    ]
    for options, kept in cases:
        drawn = native.draw(logits.expand(count, 6), rules(count, **options))
        counts = torch.bincount(drawn, minlength=6)
        if options == {"top_p": 0.9}:
            kept = 4 if counts[4] == 0 else 5
        expected = logits[0, :kept].softmax(-1) * count
        assert not counts[kept:].any(), options
        # 4 degrees of freedom at most: 99.99 % of all samples lie below 24
        assert ((counts[:kept] - expected) ** 2 / expected).sum() < 24, options


def test_forbidden_tokens_are_never_drawn(native: NativeOperations) -> None:
    """However flat the distribution, and though fewer are allowed than top_k keeps."""
    vocab, count = 101, 3000
    allowed = torch.tensor([0, 3, 15, 16, 40, 95, 96, 100])
    logits = torch.full((count, vocab), NEVER)
    logits[:, allowed] = random(count, len(allowed))
    for options in (
        {},
        {"top_k": 20},
        {"top_p": 0.99},
        {"min_p": 1e-9},
        {"top_k": 9, "top_p": 0.9},
    ):
        drawn = native.draw(logits, rules(count, temperature=50.0, **options))
        assert set(drawn.tolist()) <= set(allowed.tolist()), options
    assert set(native.draw(logits, rules(count, temperature=50.0)).tolist()) == set(
        allowed.tolist()
    )


def test_equal_logits_at_the_edge_are_all_kept(native: NativeOperations) -> None:
    logits = torch.zeros(2000, 40)
    logits[:, 7] = 3.0
    for options in ({"top_k": 2}, {"top_p": 0.7}):
        drawn = native.draw(logits, rules(2000, **options))
        assert set(drawn.tolist()) == set(range(40)), options


def test_a_draw_depends_on_its_row_alone(native: NativeOperations) -> None:
    logits = random(9, 333) * 2
    some = [DrawRule(0.3 * i, i * 3, 1.0 - 0.1 * i, 0.01 * i, mix_key(i, 4)) for i in range(9)]
    together = native.draw(logits, some).tolist()
    assert together == [native.draw(logits[i : i + 1], [some[i]]).item() for i in range(9)]
    order = [3, 0, 8, 5, 1, 7, 4, 2, 6]
    shuffled = native.draw(logits[order], [some[i] for i in order]).tolist()
    assert shuffled == [together[i] for i in order]


def test_a_rule_for_each_row_is_needed(native: NativeOperations) -> None:
    with pytest.raises(ValueError, match="1 rules for 2 rows"):
        native.draw(torch.zeros(2, 5), [GREEDY])
