"""Random sequences in blocks that lie in no order, for checks and for timing.

Slots that belong to no token hold NaN where that is wanted: a kernel that reads one shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.kernels.gpu.attention import (
    PagedAttentionPlan,
    plan_paged_attention,
    query_tile_tokens,
    schedule_attention,
)


@dataclass(frozen=True)
class PagedShape:
    """A step of attention: each sequence's new tokens and its context, which includes them."""

    lengths: Sequence[int]
    contexts: Sequence[int]
    num_heads: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype
    cache_dtype: torch.dtype

    @property
    def kv_bytes(self) -> int:
        """Bytes of all keys and values that the step reads."""
        return (
            sum(self.contexts) * 2 * self.num_kv_heads * self.head_dim * self.cache_dtype.itemsize
        )

    @property
    def io_bytes(self) -> int:
        """Bytes of queries and results."""
        values = 2 * sum(self.lengths) * self.num_heads * self.head_dim
        return values * self.dtype.itemsize

    @property
    def num_operations(self) -> int:
        """Multiplications and additions of both products, causal."""
        pairs = sum(
            length * (context - length) + length * (length + 1) // 2
            for length, context in zip(self.lengths, self.contexts, strict=True)
        )
        return 4 * pairs * self.num_heads * self.head_dim


@dataclass(frozen=True)
class PagedInputs:
    """The tensors of a step. `tables` are those of the plan, on the device."""

    shape: PagedShape
    query: Tensor  # [tokens, heads, head_dim]
    keys: Tensor  # [blocks, kv_heads, block_size, head_dim]
    values: Tensor
    tables: Tensor  # [seqs, max_blocks] int32
    plan: PagedAttentionPlan


def paged_inputs(
    shape: PagedShape,
    device: torch.device,
    *,
    num_decodes: int,
    split_tokens: int = 0,
    poison: bool = False,
) -> PagedInputs:
    """Random queries, keys and values; block 0 stays padding."""
    counts = [-(-context // shape.block_size) for context in shape.contexts]
    num_blocks = sum(counts) + 1
    order = torch.randperm(num_blocks - 1) + 1
    tables = torch.zeros((len(counts), max(counts)), dtype=torch.int32)
    taken = 0
    for row, count in enumerate(counts):
        tables[row, :count] = order[taken : taken + count]
        taken += count
    cache_shape = (num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim)
    caches = [_random(cache_shape, shape.cache_dtype, device) for _ in range(2)]
    if poison:
        for cache in caches:
            _poison_unused(cache, tables, counts, shape)
    schedule = schedule_attention(
        shape.lengths,
        shape.contexts,
        num_decodes=num_decodes,
        tile_tokens=query_tile_tokens(
            shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.dtype
        ),
        split_tokens=split_tokens,
    )
    starts = [0, *torch.tensor(shape.lengths).cumsum(0).tolist()]
    on_device = tables.to(device)
    plan = plan_paged_attention(
        schedule,
        on_device,
        torch.tensor(shape.contexts, dtype=torch.int32, device=device),
        torch.tensor(starts, dtype=torch.int32, device=device),
        torch.from_numpy(schedule.tiles).to(device),
    )
    query = _random((sum(shape.lengths), shape.num_heads, shape.head_dim), shape.dtype, device)
    return PagedInputs(shape, query, caches[0], caches[1], on_device, plan)


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if dtype.itemsize == 1:
        return torch.randn(shape, device=device).to(dtype)
    return torch.randn(shape, dtype=dtype, device=device)


def _poison_unused(cache: Tensor, tables: Tensor, counts: Sequence[int], shape: PagedShape) -> None:
    nan = torch.full((), float("nan")).to(cache.dtype)
    cache[0] = nan
    for row, (count, context) in enumerate(zip(counts, shape.contexts, strict=True)):
        used = context - (count - 1) * shape.block_size
        cache[int(tables[row, count - 1]), :, used:] = nan
