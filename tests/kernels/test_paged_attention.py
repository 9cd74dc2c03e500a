"""Attention over blocks by torch's fused kernels, against reference and plain attention."""

import pytest
import torch

from octavo.kernels import (
    SequenceSpan,
    paged_attention,
    paged_attention_reference,
    plan_attention,
    write_kv,
)

BLOCK_SIZE, NUM_BLOCKS, HEADS, KV_HEADS, HEAD_DIM = 16, 64, 6, 2, 32
SCALE = HEAD_DIM**-0.5
# (query tokens, context) of each sequence of a step.
STEPS = {
    "one decode": [(1, 1)],
    "decodes": [(1, 1), (1, 15), (1, 16), (1, 17), (1, 200)],
    "whole prompts": [(5, 5), (16, 16), (33, 33)],
    "chunks": [(16, 48), (7, 40), (1, 33)],
    "mixed": [(1, 70), (1, 3), (20, 20), (4, 64), (1, 18)],
}


def make_step(lengths: list[tuple[int, int]]) -> tuple:
    """Random tokens in shuffled blocks, NaN wherever nothing was written."""
    generator = torch.Generator().manual_seed(len(lengths))
    keys = torch.full((NUM_BLOCKS, KV_HEADS, BLOCK_SIZE, HEAD_DIM), torch.nan)
    values = torch.full_like(keys, torch.nan)
    blocks = (torch.randperm(NUM_BLOCKS - 1, generator=generator) + 1).tolist()
    tables = torch.zeros((len(lengths), 16), dtype=torch.int64)
    spans, contents, start = [], [], 0
    for row, (length, context) in enumerate(lengths):
        count = -(-context // BLOCK_SIZE)
        tables[row, :count] = torch.tensor([blocks.pop() for _ in range(count)])
        key = torch.randn((context, KV_HEADS, HEAD_DIM), generator=generator)
        value = torch.randn((context, KV_HEADS, HEAD_DIM), generator=generator)
        positions = torch.arange(context)
        slots = tables[row, positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
        write_kv(key, value, keys, values, slots)
        spans.append(SequenceSpan(row, start, length, context))
        contents.append((key, value))
        start += length
    query = torch.randn((start, HEADS, HEAD_DIM), generator=generator)
    return query, keys, values, spans, tables, contents


def plain_attention(query: torch.Tensor, span: SequenceSpan, content: tuple, window: int):
    """One query token at a time over the keys it sees, in float64."""
    keys, values = (part.double().repeat_interleave(HEADS // KV_HEADS, 1) for part in content)
    rows = []
    for offset in range(span.length):
        end = span.context - span.length + offset + 1
        begin = max(0, end - window) if window else 0
        scores = torch.einsum("hd,khd->hk", query[span.start + offset].double(), keys[begin:end])
        weights = (scores * SCALE).softmax(-1)
        rows.append(torch.einsum("hk,khd->hd", weights, values[begin:end]))
    return torch.stack(rows)


@pytest.mark.parametrize("window", [0, 1, 16, 20])
@pytest.mark.parametrize("name", STEPS)
def test_every_token_attends_to_what_it_sees(name: str, window: int) -> None:
    query, keys, values, spans, tables, contents = make_step(STEPS[name])
    expected = torch.cat(
        [plain_attention(query, *pair, window) for pair in zip(spans, contents, strict=True)]
    )
    plan = plan_attention(spans, tables, BLOCK_SIZE)
    for result in (
        paged_attention(query, keys, values, plan, SCALE, window),
        paged_attention_reference(query, keys, values, spans, tables, SCALE, window),
    ):
        # float32 sums of up to 200 terms: far below 1e-5 of the result
        assert (result - expected).norm() / expected.norm() < 1e-5


def test_bfloat16_stays_within_its_rounding() -> None:
    query, keys, values, spans, tables, contents = make_step(STEPS["mixed"])
    expected = torch.cat(
        [plain_attention(query, *pair, 0) for pair in zip(spans, contents, strict=True)]
    )
    plan = plan_attention(spans, tables, BLOCK_SIZE)
    half = [tensor.bfloat16() for tensor in (query, keys, values)]
    result = paged_attention(*half, plan, SCALE)
    # 8 bits of mantissa in inputs and output
    assert (result.double() - expected).norm() / expected.norm() < 1e-2
