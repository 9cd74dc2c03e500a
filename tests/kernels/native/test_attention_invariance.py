"""A token's attention is the same to the bit however its sequence is cut, and whoever runs beside.

Prefix reuse, chunked prefill, preemption and batching are exact because of it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.kernels.cpu.operations import NativeOperations

from .paged_steps import AttentionSizes, PagedStep, make_step

CONTEXT = 560  # more than two of the parts that are kept apart
LAYOUTS = [
    AttentionSizes(2, 2, 16, 16, torch.float32),
    AttentionSizes(9, 3, 64, 16, torch.bfloat16),
    AttentionSizes(9, 1, 80, 8, torch.float32),
    AttentionSizes(40, 1, 24, 32, torch.bfloat16),
    AttentionSizes(4, 1, 8, 8, torch.bfloat16),
    AttentionSizes(8, 2, 128, 32, torch.float32),
]
DECODED = [0, 1, 14, 15, 16, 17, 40, 254, 255, 256, 257, 300, 511, 512, 513, 559]  # positions


def attend(
    native: NativeOperations,
    step: PagedStep,
    native_keys: Tensor,
    spans: list[tuple[int, int, int, int]],
    query: Tensor,
    window: int,
) -> Tensor:
    plan = native.plan(np.array(spans), step.tables, step.sizes.block_size)
    return native.attend(
        query, native_keys, step.values, plan, scale=step.sizes.scale, window=window
    )


@pytest.mark.parametrize("window", [0, 20, 270])
def test_cut_as_one_likes(
    native: NativeOperations,
    window: int,
    with_threads: Callable[[int], None],
    thinned: Callable[[list[Any]], list[Any]],
) -> None:
    for sizes in thinned(LAYOUTS):
        step = make_step(sizes, [(CONTEXT, CONTEXT)])
        keys, query = step.native_keys, step.query

        def compute(
            spans: list[tuple[int, int, int, int]],
            part: Tensor,
            step: PagedStep = step,
            keys: Tensor = keys,
        ) -> Tensor:
            return attend(native, step, keys, spans, part, window)

        with_threads(2)
        whole = compute([(0, 0, CONTEXT, CONTEXT)], query)
        assert whole.isfinite().all()
        for size in (5, 16, 37, 256):
            for first, last in pairwise([*range(0, CONTEXT, size), CONTEXT]):
                chunk = compute([(0, 0, last - first, last)], query[first:last])
                assert torch.equal(chunk, whole[first:last]), (sizes, size, first)
        for threads in (1, 2, 3):
            with_threads(threads)
            again = compute([(0, 0, CONTEXT, CONTEXT)], query)
            assert torch.equal(again, whole), (sizes, threads)
            for position in DECODED:
                alone = compute([(0, 0, 1, position + 1)], query[position : position + 1])
                assert torch.equal(alone[0], whole[position]), (sizes, threads, position)
            # The same tokens in one batch, and beside a chunk of a prompt.
            spans = [(0, i, 1, position + 1) for i, position in enumerate(DECODED)]
            together = compute(spans, query[DECODED])
            assert torch.equal(together, whole[DECODED]), (sizes, threads)
            mixed = torch.cat((query[DECODED[:6]], query[250:300], query[DECODED[6:]]))
            after = [(row, start + 50, length, end) for row, start, length, end in spans[6:]]
            result = compute([*spans[:6], (0, 6, 50, 300), *after], mixed)
            assert torch.equal(result[6:56], whole[250:300]), (sizes, threads)
            assert torch.equal(torch.cat((result[:6], result[56:])), whole[DECODED])


def test_the_length_of_other_sequences_does_not_matter(native: NativeOperations) -> None:
    sizes = AttentionSizes(3, 1, 32, 16, torch.float32)
    lengths = [(1, 5), (1, 300), (1, 1000)]
    step = make_step(sizes, lengths)
    spans = [tuple(span) for span in step.spans.tolist()]
    together = attend(native, step, step.native_keys, spans, step.query, 0)
    for index, (row, _, length, context) in enumerate(spans):
        one = step.query[index : index + 1]
        alone = attend(native, step, step.native_keys, [(row, 0, length, context)], one, 0)
        assert torch.equal(alone[0], together[index])
