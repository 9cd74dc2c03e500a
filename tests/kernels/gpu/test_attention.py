"""Attention kernels against a dense computation in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.gpu.attention import (
    PagedAttentionPlan,
    attend,
    plan_paged_attention,
    query_tile_tokens,
    schedule_attention,
    schedule_decodes,
)
from octavo.kernels.gpu.context_splits import num_splits
from octavo.kernels.paged_attention import SequenceSpan, gather_blocks, visible_keys

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
FLOAT8 = torch.float8_e4m3fn
# Weights and the result are rounded once each, by 2^-9 of a bfloat16 at most; the interpreter
# truncates instead, which makes each twice that. float32: sums of a few hundred terms.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 6e-4, torch.bfloat16: 4e-3 if ON_GPU else 1e-2}
NOWHERE = 1 << 30  # a block that no cache has: whoever reads it fails
EDGES = [1, 15, 16, 17, 64, 65, 128, 130]


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a wrapper allocates is full of NaN, so that what no program writes shows."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")))


@dataclass
class Step:
    """Sequences of random tokens, their keys and values scattered over blocks among NaN."""

    query: Tensor
    keys: Tensor
    values: Tensor
    tables: Tensor
    query_lengths: list[int]
    contexts: list[int]

    def plan(self, num_decodes: int = 0, split_tokens: int = 0) -> PagedAttentionPlan:
        """One packed buffer of int32, as a runner would copy it."""
        _, heads, head_dim = self.query.shape
        schedule = schedule_attention(
            self.query_lengths,
            self.contexts,
            num_decodes=num_decodes,
            tile_tokens=query_tile_tokens(heads, self.keys.shape[1], head_dim, self.query.dtype),
            split_tokens=split_tokens,
        )
        starts = [0, *accumulate(self.query_lengths)]
        numbers = [*self.contexts, *starts, *schedule.tiles.flatten().tolist()]
        packed = torch.tensor(numbers, dtype=torch.int32, device=DEVICE)
        contexts, query_starts, tiles = packed.split(
            [len(self.contexts), len(starts), schedule.tiles.size]
        )
        return plan_paged_attention(
            schedule, self.tables, contexts, query_starts, tiles.view(schedule.tiles.shape)
        )

    def attend(
        self, num_decodes: int = 0, split_tokens: int = 0, scale: float = 0.3, **options: Any
    ) -> Tensor:
        plan = self.plan(num_decodes, split_tokens)
        return attend(self.query, self.keys, self.values, plan, scale=scale, **options)

    def expected(
        self,
        scale: float = 0.3,
        window: int = 0,
        soft_cap: float = 0.0,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
    ) -> Tensor:
        """The same in float64; zeros for a sequence without context."""
        result = torch.zeros(self.query.shape, dtype=torch.float64, device=DEVICE)
        groups = self.query.shape[1] // self.keys.shape[1]
        start = 0
        for row, (length, context) in enumerate(
            zip(self.query_lengths, self.contexts, strict=True)
        ):
            part = slice(start, start + length)
            start += length
            if context == 0:
                continue
            table = self.tables[row, : -(-context // self.keys.shape[2])].long()
            keys = gather_blocks(self.keys.to(torch.float64), table, context) * k_scale
            values = gather_blocks(self.values.to(torch.float64), table, context) * v_scale
            query = self.query[part].double()
            keys = keys.repeat_interleave(groups, 0)
            scores = torch.einsum("qhd,hkd->hqk", query, keys) * scale
            if soft_cap > 0.0:
                scores = soft_cap * torch.tanh(scores / soft_cap)
            visible = visible_keys(SequenceSpan(row, 0, length, context), window, DEVICE)
            scores = scores.masked_fill(~visible, float("-inf"))
            weights = scores.softmax(dim=-1)
            values = values.repeat_interleave(groups, 0)
            result[part] = torch.einsum("hqk,hkd->qhd", weights, values)
        return result


def make_step(
    query_lengths: Sequence[int],
    contexts: Sequence[int],
    *,
    group: int = 2,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Step:
    generator = torch.Generator().manual_seed(seed)
    numbers = [-(-context // block_size) for context in contexts]
    shape = (2, 2, sum(numbers) + 2, kv_heads, block_size, head_dim)
    whole = torch.full(shape, float("nan"))  # [layers, keys or values, blocks, …]
    tables = torch.full((len(contexts), max(*numbers, 1) + 1), NOWHERE, dtype=torch.int32)
    order = torch.randperm(sum(numbers), generator=generator) + 1
    for row, (table, context) in enumerate(zip(order.split(numbers), contexts, strict=True)):
        tables[row, : len(table)] = table
        for position in range(context):
            block, slot = table[position // block_size], position % block_size
            whole[1, :, block, :, slot] = torch.randn(2, kv_heads, head_dim, generator=generator)
    query = torch.randn(sum(query_lengths), kv_heads * group, head_dim, generator=generator)
    cache = whole.to(DEVICE, dtype).to(cache_dtype or dtype)
    return Step(
        query.to(DEVICE, dtype),
        cache[1, 0],
        cache[1, 1],
        tables.to(DEVICE),
        list(query_lengths),
        list(contexts),
    )


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result.double() - expected).norm() / expected.norm())


def check(step: Step, num_decodes: int = 0, split_tokens: int = 0, **options: Any) -> None:
    result = step.attend(num_decodes, split_tokens, **options)
    assert result.dtype == step.query.dtype and result.shape == step.query.shape
    expected = step.expected(**options)
    assert relative_error(result, expected) < TOLERANCES[step.query.dtype]


@pytest.mark.parametrize(
    ("head_dim", "block_size", "group"), [(64, 16, 1), (80, 32, 7), (96, 64, 17), (128, 48, 4)]
)
def test_decode_agrees_at_block_and_tile_edges(head_dim: int, block_size: int, group: int) -> None:
    step = make_step([1] * len(EDGES), EDGES, group=group, head_dim=head_dim, block_size=block_size)
    check(step, num_decodes=len(EDGES))


@pytest.mark.parametrize(
    ("head_dim", "block_size", "group", "dtype"),
    [
        (64, 16, 1, torch.float32),
        (80, 32, 7, torch.float16),
        (96, 64, 3, torch.float32),
        (128, 48, 4, torch.float16),
    ],
    ids=str,
)
def test_prefill_agrees_at_block_and_tile_edges(
    head_dim: int, block_size: int, group: int, dtype: torch.dtype
) -> None:
    step = make_step(
        [1, 15, 2, 17, 1, 20, 3, 5],
        EDGES,
        kv_heads=1,
        group=group,
        head_dim=head_dim,
        block_size=block_size,
        dtype=dtype,
    )
    check(step)


@pytest.mark.parametrize("block_size", [1, 4, 15])
def test_blocks_of_any_size_work(block_size: int) -> None:
    step = make_step([1, 5], [41, 30], kv_heads=1, block_size=block_size)
    check(step, num_decodes=1, split_tokens=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_widest_heads_work(dtype: torch.dtype) -> None:
    step = make_step([1, 40], [70, 50], head_dim=256, kv_heads=1, group=2, dtype=dtype)
    check(step)
    check(step, num_decodes=1, split_tokens=64)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("cache_dtype", [None, FLOAT8], ids=["model", "float8"])
def test_types_of_model_and_cache(dtype: torch.dtype, cache_dtype: torch.dtype | None) -> None:
    step = make_step([1, 1, 21], [19, 140, 50], kv_heads=1, dtype=dtype, cache_dtype=cache_dtype)
    scales = {"k_scale": 0.7, "v_scale": 1.3} if cache_dtype is not None else {}
    check(step, **scales)
    check(step, num_decodes=2, split_tokens=64, **scales)


@pytest.mark.parametrize(
    "options",
    [{"window": 1}, {"window": 64}, {"window": 70, "soft_cap": 2.0}],
    ids=str,
)
@pytest.mark.parametrize("split_tokens", [0, 64])
def test_window_and_soft_cap(options: dict[str, Any], split_tokens: int) -> None:
    step = make_step(
        [1, 1, 90, 20], [65, 200, 200, 20], kv_heads=1, head_dim=32, dtype=torch.float16
    )
    check(step, num_decodes=2, split_tokens=split_tokens, **options)
    decodes = make_step([1, 1], [5, 200], kv_heads=1, head_dim=32)
    check(decodes, num_decodes=2, split_tokens=split_tokens, **options)


def test_large_scores_neither_overflow_nor_lose_digits() -> None:
    step = make_step([1, 1, 30], [150, 9, 80])
    check(step, num_decodes=2, split_tokens=64, scale=20.0)


@pytest.mark.parametrize(
    ("split_tokens", "dtype"), [(0, torch.float32), (192, torch.float16)], ids=str
)
def test_long_contexts_are_split(split_tokens: int, dtype: torch.dtype) -> None:
    step = make_step([1, 1, 1, 1], [700, 0, 257, 3], kv_heads=1, head_dim=32, dtype=dtype)
    check(step, num_decodes=4, split_tokens=split_tokens)
    check(step, num_decodes=4, split_tokens=split_tokens, window=600)


def test_padding_rows_get_zeros_and_read_nothing() -> None:
    step = make_step([1] * 3, [0, 20, 0])
    for split_tokens in (0, 64):
        result = step.attend(3, split_tokens)
        assert not result[[0, 2]].any()
        assert relative_error(result, step.expected()) < TOLERANCES[torch.float32]


def test_captured_schedule_serves_any_shorter_context() -> None:
    step = make_step([1] * 3, [0, 270, 41], kv_heads=1, head_dim=32, dtype=torch.float16)
    contexts = torch.tensor([0, 270, 41], dtype=torch.int32, device=DEVICE)
    starts = torch.arange(4, dtype=torch.int32, device=DEVICE)
    tiles = torch.zeros((2, 0), dtype=torch.int32, device=DEVICE)
    for split_tokens in (0, 64):
        schedule = schedule_decodes(3, 1000, split_tokens)
        plan = plan_paged_attention(schedule, step.tables, contexts, starts, tiles)
        result = attend(step.query, step.keys, step.values, plan, scale=0.3)
        assert relative_error(result, step.expected()) < TOLERANCES[torch.float16]


def test_rows_of_query_and_result_may_lie_apart() -> None:
    step = make_step([1, 1, 33], [3, 77, 50], dtype=torch.float16)
    fused = torch.full((35, 9, 64), float("nan"), dtype=torch.float16, device=DEVICE)
    fused[:, 3:7] = step.query
    step.query = fused[:, 3:7]
    for split_tokens in (0, 64):
        target = torch.full((35, 5, 64), float("nan"), dtype=torch.float16, device=DEVICE)
        result = step.attend(2, split_tokens, out=target[:, 1:])
        assert result.data_ptr() == target[:, 1:].data_ptr()
        assert relative_error(target[:, 1:], step.expected()) < TOLERANCES[torch.float16]
        assert target[:, 0].isnan().all()


def test_deterministic_decode_has_the_same_bits_in_any_company() -> None:
    alone = make_step([1], [140], kv_heads=1, head_dim=32)
    crowd = make_step([1, 1, 1, 9], [400, 140, 2, 9], kv_heads=1, head_dim=32, seed=1)
    copy_sequence(alone, 0, crowd, 1)
    for options in ({}, {"window": 100}):
        expected = alone.attend(1, split_tokens=64, **options)[0]
        assert torch.equal(crowd.attend(3, split_tokens=64, **options)[1], expected)


def test_deterministic_prefill_has_the_same_bits_in_any_chunks() -> None:
    whole = make_step([200], [200], kv_heads=1, head_dim=32, dtype=torch.float16)
    if not ON_GPU:  # the interpreter's matmul sums a row by where it lies in the tile
        for tensor in (whole.query, whole.keys, whole.values):
            tensor.copy_(tensor.round().clamp(-1, 1))  # with these, all sums are exact
    for options in ({}, {"window": 77}):
        expected = whole.attend(split_tokens=64, scale=0.1, **options)
        done = 0
        for length in (1, 94, 6, 99):
            chunk = Step(
                whole.query[done : done + length],
                whole.keys,
                whole.values,
                whole.tables,
                [length],
                [done + length],
            )
            result = chunk.attend(split_tokens=64, scale=0.1, **options)
            assert torch.equal(result, expected[done : done + length])
            done += length


def copy_sequence(source: Step, row: int, target: Step, target_row: int) -> None:
    """Give a decoding sequence of `target` the token and context of one of `source`."""
    target.query[target_row] = source.query[row]
    for block, target_block in zip(source.tables[row], target.tables[target_row], strict=False):
        if block != NOWHERE:
            target.keys[target_block] = source.keys[block]
            target.values[target_block] = source.values[block]


def test_tiles_that_read_most_come_first_and_cover_every_token() -> None:
    schedule = schedule_attention([1, 1, 10, 4], [9, 0, 30, 4], num_decodes=2, tile_tokens=4)
    assert schedule.num_decodes == 0
    assert schedule.tiles.tolist() == [[2, 2, 2, 0, 3, 1], [8, 4, 0, 0, 0, 0]]
    apart = schedule_attention(
        [1, 1, 10, 4], [9, 0, 30, 4], num_decodes=2, tile_tokens=4, split_tokens=64
    )
    assert (apart.num_decodes, apart.max_context) == (2, 9)
    assert apart.tiles.tolist() == [[2, 2, 2, 3], [8, 4, 0, 0]]
    long = schedule_attention([1, 10], [5000, 10], num_decodes=1, tile_tokens=16)
    assert (long.num_decodes, long.tiles.tolist()) == (1, [[1], [0]])


def test_splits_fill_the_chip_within_what_pays() -> None:
    def splits(programs: int, max_context: int, window: int = 0, split_tokens: int = 0) -> int:
        return num_splits(programs, max_context, window, split_tokens, multiprocessors=132)

    assert splits(8, 0) == 1
    assert splits(8, 256) == 1
    assert splits(8, 257) == 2
    assert splits(8, 100_000) == 66  # 4 programs for each of 132 SMs
    assert splits(528, 8192) == 1
    assert splits(5000, 131_072) == 16  # no split above 8192 tokens
    assert splits(8, 100_000, window=1024) == 5  # 256-aligned, so one more than 1024 / 256
    assert splits(5000, 1025, split_tokens=512) == 3


def test_wrong_inputs_are_refused() -> None:
    step = make_step([1, 3], [4, 3])
    query, keys, values, plan = step.query, step.keys, step.values, step.plan()
    refused = {
        "same shape and strides": (query, keys, values[:1], {}),
        "do not fit": (query[:, :3], keys, values, {}),
        "multiple of 16": (query[..., :24], keys[..., :24], values[..., :24], {}),
        "shape and type of query": (query, keys, values, {"out": query[:1]}),
        "must be contiguous": (query.transpose(1, 2).contiguous().mT, keys, values, {}),
        "bfloat16, float16 or float32": (query.double(), keys.double(), values.double(), {}),
        "float16 like query": (query.half(), keys, values, {}),
        "must hold 64 tokens": (query.half(), keys.half(), values.half(), {}),
        "above 0": (query, keys, values, {"scale": 0.0}),
    }
    for message, (q, k, v, options) in refused.items():
        with pytest.raises(ValueError, match=message):
            attend(q, k, v, plan, **{"scale": 1.0, **options})
    with pytest.raises(ValueError, match="multiple of 32"):
        step.attend(1, split_tokens=48)
    with pytest.raises(ValueError, match="contexts must be int32"):
        plan_paged_attention(
            plan.schedule, plan.block_tables, plan.contexts.long(), plan.query_starts, plan.tiles
        )
    with pytest.raises(ValueError, match="a decode has one token"):
        schedule_attention([2], [2], num_decodes=1, tile_tokens=4)
    with pytest.raises(ValueError, match="a decode has one token"):
        schedule_attention([3], [2], num_decodes=0, tile_tokens=4)
