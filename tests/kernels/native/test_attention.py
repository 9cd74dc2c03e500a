"""Attention over blocks against float64: every kind of step, layout and grouping."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.kernels.cpu.operations import NativeOperations

from .paged_steps import AttentionSizes, PagedStep, make_step

# (query tokens, context) of each sequence; keys are scored 16 and kept apart 256 at a time.
STEPS = {
    "one short decode": [(1, 1)],
    "one long decode": [(1, 1100)],
    "short decodes": [(1, n) for n in (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33)],
    "long decodes": [(1, n) for n in (255, 256, 257, 511, 512, 513, 700)],
    "two decodes, one of them long": [(1, 5), (1, 530)],
    "whole prompts": [(n, n) for n in (1, 5, 15, 16, 17, 33, 70)],
    "chunks": [(16, 48), (7, 300), (3, 260), (21, 520), (2, 1100), (40, 257)],
    "mixed": [(1, 70), (20, 20), (1, 3), (4, 513), (1, 260), (1, 18), (33, 40)],
}
GROUPS = [(1, 2), (3, 3), (4, 1), (9, 1), (4, 2), (40, 1), (33, 1)]  # heads of a group, KV heads
WINDOWS = [0, 1, 7, 16, 40, 256, 300]
# For each root of the head's size; what is seen is 1.5e-7 of the whole and 3e-7 of an element.
TOLERANCE = 1e-6


def attend(native: NativeOperations, step: PagedStep, window: int) -> Tensor:
    return native.attend(
        step.query,
        step.native_keys,
        step.values,
        native.plan(step.spans, step.tables, step.sizes.block_size),
        scale=step.sizes.scale,
        window=window,
    )


def check(result: Tensor, step: PagedStep, window: int, strength: float = 1.0) -> None:
    """A weight e^s is off by what its score s is off, relatively: a walk of head_dim roundings.

    With `strength` times larger scores that is as much more.
    """
    expected = step.expected(window)
    assert result.shape == expected.shape and result.dtype == torch.float32
    error, case = (result - expected).abs(), (step.sizes, window)
    most = TOLERANCE * strength * max(2.0, step.sizes.head_dim**0.5)
    assert error.norm() <= 0.4 * most * expected.norm(), case
    assert (error <= most * (1 + expected.abs())).all(), (case, error.max())


def layouts() -> list[AttentionSizes]:
    """Every size of head with every size of block and type of cache; groupings in turn."""
    combinations = product((8, 16, 64, 80, 128, 256), (8, 16, 32), (torch.float32, torch.bfloat16))
    return [
        AttentionSizes(group * kv_heads, kv_heads, head_dim, block_size, dtype)
        for i, (head_dim, block_size, dtype) in enumerate(combinations)
        for group, kv_heads in [GROUPS[i % len(GROUPS)]]
    ]


@pytest.mark.parametrize("name", STEPS)
def test_agrees_with_float64(
    native: NativeOperations, name: str, thinned: Callable[[list[Any]], list[Any]]
) -> None:
    for index, sizes in enumerate(thinned(layouts())):
        step = make_step(sizes, STEPS[name], seed=index)
        window = WINDOWS[index % len(WINDOWS)]
        check(attend(native, step, window), step, window)


@pytest.mark.parametrize("block_size", [8, 16, 32])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows(native: NativeOperations, window: int, block_size: int) -> None:
    sizes = AttentionSizes(6, 2, 24, block_size, torch.float32)
    for lengths in STEPS.values():
        step = make_step(sizes, lengths)
        check(attend(native, step, window), step, window)


def test_every_context_up_to_a_few_blocks(native: NativeOperations) -> None:
    for block_size in (8, 16, 32):
        sizes = AttentionSizes(4, 2, 20, block_size, torch.float32)
        step = make_step(sizes, [(1, n) for n in range(1, 70)])
        check(attend(native, step, 0), step, 0)


def test_scores_far_apart(native: NativeOperations) -> None:
    """Weights that vanish beside the largest, which comes first, last or between."""
    sizes = AttentionSizes(2, 1, 16, 16, torch.float32)
    step = make_step(sizes, [(1, 600), (70, 70), (3, 300)])
    for strength in (30.0, 1000.0, 1e-6):
        strong = PagedStep(
            sizes, step.spans, step.tables, step.query * strength, step.keys, step.values
        )
        check(attend(native, strong, 0), strong, 0, max(1.0, strength))


def test_a_query_among_keys_and_values(native: NativeOperations) -> None:
    """The query may be a view of qkv rows, as `rotate_and_write` gives it."""
    step = make_step(AttentionSizes(4, 2, 16, 16, torch.float32), STEPS["mixed"])
    wide = torch.full((len(step.query), 8, 16), torch.nan)
    wide[:, :4] = step.query
    apart = PagedStep(step.sizes, step.spans, step.tables, wide[:, :4], step.keys, step.values)
    assert torch.equal(attend(native, apart, 0), attend(native, step, 0))


def test_wrong_inputs_are_refused(native: NativeOperations) -> None:
    spans, tables = np.array([[0, 0, 1, 17]]), np.zeros((1, 1), dtype=np.int64)
    with pytest.raises(ValueError, match="do not cover"):
        native.plan(spans, tables, 16)
    with pytest.raises(ValueError, match="do not cover"):
        native.plan(np.array([[1, 0, 1, 16]]), tables, 16)
    with pytest.raises(ValueError, match="must be int64"):
        native.plan(spans.astype(np.int32), tables, 32)
    plan = native.plan(spans, tables, 32)
    cache = torch.zeros(1, 1, 32, 8)
    for query in (torch.zeros(1, 1, 8).bfloat16(), torch.zeros(1, 8, 2).transpose(1, 2)):
        with pytest.raises(ValueError, match="query must be float32"):
            native.attend(query, cache, cache, plan, scale=1.0, window=0)
