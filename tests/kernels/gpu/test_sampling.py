"""Sampling on the device against the sampler and the generator of `models/`."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

import triton
import triton.language as tl

from octavo.kernels.gpu import sampling
from octavo.kernels.gpu.random_numbers import gumbel_noise, mix_key, random_bits
from octavo.kernels.gpu.truncation import GREEDY_BELOW, find_thresholds
from octavo.models import random_numbers, sampler
from octavo.models.sampler import SamplingRow
from octavo.models.sampling_spec import GREEDY_EPSILON, SamplingSpec

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
# Logarithms differ in their last digits, and masses are summed in another order.
CLEAR_GAP = 1e-4


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a wrapper allocates is full of NaN or -7, so that what no program writes shows."""
    empty = torch.empty

    def poisoned(*arguments: object, **options: object) -> Tensor:
        result = empty(*arguments, **options)
        return result.fill_(float("nan") if result.is_floating_point() else -7)

    monkeypatch.setattr(torch, "empty", poisoned)


def random_logits(rows: int, vocab: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * scale


def parameters(specs: Sequence[SamplingSpec]) -> dict[str, Tensor]:
    def floats(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=DEVICE)

    return {
        "temperature": floats([spec.temperature for spec in specs]),
        "top_k": torch.tensor([s.top_k for s in specs], dtype=torch.int32, device=DEVICE),
        "top_p": floats([spec.top_p for spec in specs]),
        "min_p": floats([spec.min_p for spec in specs]),
    }


def as_int64(seeds: Sequence[int]) -> Tensor:
    """64 bits as the int64 that has them."""
    signed = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
    return torch.tensor(signed, dtype=torch.int64, device=DEVICE)


def draw(logits: Tensor, specs: Sequence[SamplingSpec], positions: Sequence[int]) -> Tensor:
    return sampling.sample_rows(
        logits.to(DEVICE),
        **parameters(specs),
        seeds=as_int64([spec.seed for spec in specs]),
        positions=torch.tensor(positions, dtype=torch.int64, device=DEVICE),
    ).cpu()


def sampling_row(spec: SamplingSpec, position: int) -> SamplingRow:
    return SamplingRow("r", spec, position, [0] * position, [])


@triton.jit
def _noise_kernel(seeds, positions, bits, noise, vocab, TILE: tl.constexpr):
    row = tl.program_id(0)
    key = mix_key(tl.load(seeds + row), tl.load(positions + row))
    ids = tl.arange(0, TILE)
    drawn = random_bits(key, ids)
    tl.store(bits + row * vocab + ids, drawn.to(tl.int64), mask=ids < vocab)
    tl.store(noise + row * vocab + ids, gumbel_noise(drawn), mask=ids < vocab)


def test_random_bits_are_those_of_the_reference() -> None:
    keys = [(0, 0), (1, 2**20), (2**63, 7), (2**64 - 1, 2**31 - 1), (0x9E3779B97F4A7C15, 131071)]
    vocab = 1000
    bits = torch.full((len(keys), vocab), -1, dtype=torch.int64, device=DEVICE)
    noise = torch.full((len(keys), vocab), float("nan"), device=DEVICE)
    seeds, positions = as_int64([seed for seed, _ in keys]), torch.tensor([p for _, p in keys])
    _noise_kernel[(len(keys),)](seeds, positions.to(DEVICE), bits, noise, vocab, TILE=1024)
    ids = torch.arange(vocab)
    for line, (seed, position) in zip(bits.cpu(), keys, strict=True):
        key = random_numbers.mix_key(seed, position)
        expected = random_numbers._finalize(ids ^ (key & (2**32 - 1)))
        assert torch.equal(line, random_numbers._finalize(expected ^ (key >> 32)))
    expected_noise = random_numbers.gumbel_noise(keys, vocab, torch.device("cpu"))
    assert float((noise.cpu() - expected_noise).abs().max()) < 4e-6


@triton.jit
def _noise_of_bits_kernel(bits, noise, TILE: tl.constexpr):
    place = tl.arange(0, TILE)
    tl.store(noise + place, gumbel_noise(tl.load(bits + place).to(tl.uint32)))


def test_noise_is_accurate_and_finite_at_both_ends() -> None:
    ends = [0, 1, 2, 255, 256, 257, 2**16, 2**31 - 1, 2**31, 2**32 - 257, 2**32 - 128, 2**32 - 1]
    generator = torch.Generator().manual_seed(0)
    middle = torch.randint(2**32, (1024 - len(ends),), generator=generator)
    bits = torch.cat([torch.tensor(ends), middle])
    noise = torch.full((1024,), float("nan"), device=DEVICE)
    _noise_of_bits_kernel[(1,)](bits.to(DEVICE), noise, TILE=1024)
    uniform = (bits.float() + 0.5).mul(2.0**-32).clamp(max=1 - 2.0**-24).double()
    expected = -torch.log(-torch.log1p(-uniform))
    # Absolutely, since it is added to logits: ln 2^33 = 22.9 is the largest there is.
    assert float((noise.cpu().double() - expected).abs().max()) < 3e-6


def test_greedy_limits_agree() -> None:
    assert GREEDY_BELOW == GREEDY_EPSILON


@pytest.mark.parametrize("vocab", [1, 7, 1023, 1024, 1025, 5000])
def test_greedy_rows_take_the_first_of_the_highest(vocab: int) -> None:
    logits = random_logits(5, vocab).round()  # many ties, 0.0 and -0.0 among them
    logits[3] = float("-inf")
    logits[4] = torch.where(torch.arange(vocab) % 2 == 0, -0.0, 0.0)
    drawn = draw(logits, [SamplingSpec(temperature=0.0, top_k=3, top_p=0.5)] * 5, range(5))
    for row, token_id in enumerate(drawn.tolist()):
        best = logits[row].max()
        assert token_id == int((logits[row] == best).nonzero()[0, 0])


def kept_by_reference(logits: Tensor, specs: Sequence[SamplingSpec]) -> Tensor:
    """Which values the reference keeps: boolean [rows, vocab].

    It sums in float64 here: thousands of terms in float32 may end a token sooner or later.
    """
    scaled = (logits / torch.tensor([[spec.temperature] for spec in specs])).double()
    finite = scaled > float("-inf")
    sampler._truncate(scaled, [sampling_row(spec, 0) for spec in specs])
    return (scaled > float("-inf")) & finite


def kept_by_kernel(logits: Tensor, specs: Sequence[SamplingSpec]) -> Tensor:
    thresholds = find_thresholds(logits.to(DEVICE), **parameters(specs)).cpu()
    scaled = logits / torch.tensor([[spec.temperature] for spec in specs])
    return (scaled >= thresholds[:, None]) & (scaled > float("-inf"))


@pytest.mark.parametrize("vocab", [2, 50, 4096, 5001])
@pytest.mark.parametrize("ties", [False, True])
def test_top_k_keeps_the_highest_and_their_ties(vocab: int, ties: bool) -> None:
    wanted = {1, 2, 40, vocab // 2, vocab - 1, 4097}
    specs = [SamplingSpec(top_k=k, temperature=0.7) for k in sorted(wanted) if 0 < k < vocab]
    logits = random_logits(len(specs), vocab)
    logits = logits.round() if ties else logits
    kept = kept_by_kernel(logits, specs)
    assert torch.equal(kept, kept_by_reference(logits, specs))
    if not ties:
        assert kept.sum(1).tolist() == [spec.top_k for spec in specs]


@pytest.mark.parametrize("vocab", [3, 1000, 5001])
@pytest.mark.parametrize("ties", [False, True])
def test_top_p_keeps_the_fewest_that_hold_it(vocab: int, ties: bool) -> None:
    specs = [
        SamplingSpec(top_p=top_p, temperature=temperature)
        for top_p in (1e-6, 0.3, 0.9, 0.999)
        for temperature in (0.3, 1.3)
    ]
    logits = random_logits(len(specs), vocab, seed=1)
    logits = (logits.round() if ties else logits) + torch.linspace(-30, 30, len(specs))[:, None]
    assert torch.equal(kept_by_kernel(logits, specs), kept_by_reference(logits, specs))


def test_all_three_truncations_work_together() -> None:
    specs = [
        SamplingSpec(top_k=top_k, top_p=top_p, min_p=min_p, temperature=0.9)
        for top_k in (0, 2, 30)
        for top_p in (0.5, 0.95, 1.0)
        for min_p in (0.0, 0.02, 0.3)
    ]
    logits = random_logits(len(specs), 300, seed=2)
    logits[::2] = (3 * logits[::2]).round() / 3  # with ties
    assert torch.equal(kept_by_kernel(logits, specs), kept_by_reference(logits, specs))


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # the interpreter's: overflow to -inf is right
def test_truncation_copes_with_forbidden_tokens() -> None:
    logits = random_logits(4, 200, seed=3)
    logits[0, 3:] = float("-inf")  # fewer than top_k are allowed
    logits[1] = float("-inf")
    logits[1, 77] = 1.0
    logits[2, ::2] = -1e30
    logits[3, 10:] = torch.finfo(torch.float32).min
    for spec in (SamplingSpec(top_k=20), SamplingSpec(top_p=0.8), SamplingSpec(0.5, 0.9, 20, 0.1)):
        kept = kept_by_kernel(logits, [spec] * 4)
        assert torch.equal(kept, kept_by_reference(logits, [spec] * 4))


def mixed_specs(count: int, seed: int) -> list[SamplingSpec]:
    chance = random.Random(seed)
    return [
        SamplingSpec(
            temperature=chance.choice([0.0, 0.3, 0.8, 1.0, 1.5]),
            top_k=chance.choice([0, 0, 1, 5, 50, 10**6]),
            top_p=chance.choice([1.0, 1.0, 0.5, 0.95]),
            min_p=chance.choice([0.0, 0.0, 0.05]),
            seed=chance.getrandbits(64),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("vocab", "count"),
    [(17, 40), (300, 40), (2500, 8), (5001, 4), pytest.param(301, 300, marks=pytest.mark.slow)],
)
def test_draws_the_tokens_of_the_reference(vocab: int, count: int) -> None:
    if ON_GPU:
        count *= 20
    specs = mixed_specs(count, vocab)
    positions = [random.Random(i).randrange(2000) for i in range(count)]
    logits = random_logits(count, vocab, seed=vocab)
    drawn = draw(logits, specs, positions).tolist()
    noisy = logits.clone()
    rows = [sampling_row(spec, p) for spec, p in zip(specs, positions, strict=True)]
    expected = sampler.sample(noisy, rows).token_ids.tolist()
    best = noisy.topk(2).values
    clear = (best[:, 0] - best[:, 1] > CLEAR_GAP).tolist()
    assert sum(clear) >= 0.98 * count
    wrong = [i for i in range(count) if clear[i] and drawn[i] != expected[i]]
    assert not wrong, [specs[i] for i in wrong]


def test_a_row_draws_the_same_alone_and_in_a_crowd() -> None:
    specs = mixed_specs(8, 5)
    logits = random_logits(8, 1100, seed=5)
    together = draw(logits, specs, range(8)).tolist()
    alone = [draw(logits[i : i + 1], specs[i : i + 1], [i]).item() for i in range(8)]
    assert together == alone


def test_parts_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [SamplingSpec(seed=1), SamplingSpec(0.5, seed=2), SamplingSpec(0.0)]
    logits = random_logits(3, 4500, seed=6)
    expected = draw(logits, specs, range(3)).tolist()
    monkeypatch.setattr(sampling, "_MOST_PARTS", 2)
    assert draw(logits, specs, range(3)).tolist() == expected
    monkeypatch.setattr(sampling, "_WANTED_PROGRAMS", 1)
    assert draw(logits, specs, range(3)).tolist() == expected


@triton.jit
def _draw_kernel(logits, seeds, positions, token_ids, vocab, ROWS: tl.constexpr, IDS: tl.constexpr):
    """Many rows at once, which the interpreter wants; the rows share their logits."""
    rows, ids = tl.arange(0, ROWS), tl.arange(0, IDS)
    keys = mix_key(tl.load(seeds + rows), tl.load(positions + rows))
    noise = gumbel_noise(random_bits(keys[:, None], ids[None, :]))
    x = tl.load(logits + ids, mask=ids < vocab, other=float("-inf"))
    tl.store(token_ids + rows, tl.argmax(x[None, :] + noise, axis=1))


def test_tokens_come_as_often_as_the_softmax_says() -> None:
    vocab, rows = 13, 4096
    logits = random_logits(1, vocab, seed=9, scale=1.0)[0]
    seeds = as_int64([(row // 64) * 2**57 + row // 64 for row in range(rows)])
    positions = torch.arange(rows, device=DEVICE) % 64
    drawn = torch.full((rows,), -1, dtype=torch.int64, device=DEVICE)
    _draw_kernel[(1,)](logits.to(DEVICE), seeds, positions, drawn, vocab, ROWS=rows, IDS=16)
    counts = torch.bincount(drawn.cpu(), minlength=vocab)
    expected = logits.softmax(0) * rows
    # Chi-square with 12 degrees of freedom exceeds 32.9 once in a thousand; the seeds are fixed.
    assert float(((counts - expected) ** 2 / expected).sum()) < 32.9


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's own, of NaN
def test_what_is_drawn_is_always_a_token() -> None:
    logits = random_logits(6, 1500)
    logits[0] = float("nan")
    logits[1, 5] = float("nan")
    logits[2] = float("-inf")
    logits[3, 9] = float("inf")
    logits[4, :] = float("inf")
    logits[5] = -float("nan")
    for spec in (SamplingSpec(0.0), SamplingSpec(), SamplingSpec(0.7, 0.9, 10, 0.1)):
        drawn = draw(logits, [spec] * 6, range(6))
        assert int(drawn.min()) >= 0 and int(drawn.max()) < 1500
    assert draw(logits[3:4], [SamplingSpec()], [0]).tolist() == [9]


def test_indices_may_be_int32_and_rows_may_lie_apart() -> None:
    specs = mixed_specs(4, 11)
    wide = random_logits(4, 600, seed=11).to(DEVICE)
    seeds = as_int64([spec.seed for spec in specs])
    positions = torch.arange(4, dtype=torch.int32, device=DEVICE)
    drawn = sampling.sample_rows(
        wide[:, 100:400], **parameters(specs), seeds=seeds, positions=positions
    )
    assert torch.equal(drawn.cpu(), draw(wide[:, 100:400].contiguous(), specs, range(4)))


@pytest.mark.parametrize("vocab", [1, 4095, 4097])
def test_logprobs_are_those_of_log_softmax(vocab: int) -> None:
    logits = random_logits(3, vocab, seed=12, scale=8.0)
    token_ids = torch.tensor([0, vocab // 2, vocab - 1])
    result = sampling.token_logprobs(logits.to(DEVICE), token_ids.to(DEVICE, torch.int32))
    expected = logits.double().log_softmax(1).gather(1, token_ids[:, None])[:, 0]
    # float32 subtraction of logits near 30: a few units of 2^-19 at most.
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-6, atol=8e-6)


def test_penalties_are_those_of_the_reference() -> None:
    chance = random.Random(13)
    vocab, width = 500, 300
    rows, ids, counts = [], [], []
    for repetition, frequency, presence in [
        (1.0, 0.0, 0.0),
        (1.3, 0.0, 0.0),
        (0.8, 0.0, 0.0),
        (1.0, 0.7, 0.0),
        (1.0, 0.0, -0.4),
        (1.2, 0.3, 0.9),
    ]:
        spec = SamplingSpec(
            repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence
        )
        prompt = [chance.randrange(vocab) for _ in range(200)]
        output = [chance.randrange(60) for _ in range(100)]
        rows.append(SamplingRow("r", spec, 300, prompt, output))
        seen = sorted(set(prompt + output))
        ids.append(seen + [-1] * (width - len(seen)))
        counts.append([output.count(i) for i in seen] + [0] * (width - len(seen)))
    logits = random_logits(len(rows), vocab, seed=13)
    logits[1, 7] = float("-inf")
    result = logits.to(DEVICE, copy=True)
    sampling.apply_penalties(
        result,
        torch.tensor(ids, dtype=torch.int32, device=DEVICE),
        torch.tensor(counts, dtype=torch.int32, device=DEVICE),
        repetition=torch.tensor([row.spec.repetition_penalty for row in rows], device=DEVICE),
        frequency=torch.tensor([row.spec.frequency_penalty for row in rows], device=DEVICE),
        presence=torch.tensor([row.spec.presence_penalty for row in rows], device=DEVICE),
    )
    sampler.penalise(logits, rows)
    # The same operations; a GPU may fuse the product and the sum, which spares one rounding.
    torch.testing.assert_close(result.cpu(), logits, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not ON_GPU, reason="needs CUDA graphs")
def test_sampling_can_be_captured() -> None:
    specs = mixed_specs(5, 14)
    logits = random_logits(5, 3000, seed=14).to(DEVICE)
    options = parameters(specs)
    seeds = as_int64([spec.seed for spec in specs])
    positions = torch.arange(5, device=DEVICE)
    expected = sampling.sample_rows(logits, **options, seeds=seeds, positions=positions)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = sampling.sample_rows(logits, **options, seeds=seeds, positions=positions)
    graph.replay()
    assert torch.equal(drawn, expected)


def test_wrong_inputs_are_refused() -> None:
    logits = torch.zeros(2, 10, device=DEVICE)
    options = parameters([SamplingSpec()] * 2)
    seeds = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    with pytest.raises(ValueError, match="logits must be"):
        sampling.sample_rows(logits.half(), **options, seeds=seeds, positions=seeds)
    with pytest.raises(ValueError, match="side by side"):
        sampling.sample_rows(logits.T, **options, seeds=seeds, positions=seeds)
    with pytest.raises(ValueError, match=r"seeds must be contiguous \[2\] int64"):
        sampling.sample_rows(logits, **options, seeds=seeds.int(), positions=seeds)
    with pytest.raises(ValueError, match="positions must be"):
        sampling.sample_rows(logits, **options, seeds=seeds, positions=seeds[:1])
    with pytest.raises(ValueError, match="token_ids must be"):
        sampling.token_logprobs(logits, seeds.float())


def test_nothing_to_do_is_fine() -> None:
    logits = torch.zeros(0, 10, device=DEVICE)
    assert draw(logits, [], []).shape == (0,)
    assert sampling.token_logprobs(logits, as_int64([])).shape == (0,)
