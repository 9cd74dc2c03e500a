"""Steps of random sequences in shuffled blocks, and attention over them in float64."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.kernels import SequenceSpan
from octavo.kernels.paged_attention import gather_blocks, visible_keys


@dataclass(frozen=True)
class AttentionSizes:
    """What the layer and its cache look like."""

    heads: int
    kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5


@dataclass(frozen=True)
class PagedStep:
    """A step: keys and values are NaN where no token of the step's sequences lies."""

    sizes: AttentionSizes
    spans: NDArray[np.int64]  # [seqs, 4]
    tables: NDArray[np.int64]  # [seqs, blocks]
    query: Tensor  # [tokens, heads, head_dim]
    keys: Tensor  # [blocks, kv_heads, block_size, head_dim], as the references have them
    values: Tensor

    @property
    def native_keys(self) -> Tensor:
        """Of the same shape, each head of a block transposed in memory."""
        return self.keys.transpose(2, 3).contiguous().view(self.keys.shape)

    def expected(self, window: int) -> Tensor:
        """Each sequence alone, in float64 throughout."""
        output = torch.full(self.query.shape, torch.nan, dtype=torch.float64)
        for numbers in self.spans.tolist():
            span = SequenceSpan(*numbers)
            part = slice(span.start, span.start + span.length)
            count = -(-span.context // self.sizes.block_size)
            table = torch.from_numpy(self.tables[span.row, :count])
            keys = gather_blocks(self.keys, table, span.context).double()
            values = gather_blocks(self.values, table, span.context).double()
            query = self.query[part].double().unflatten(1, (self.sizes.kv_heads, -1))
            scores = torch.einsum("qhgd,hkd->hgqk", query, keys) * self.sizes.scale
            scores.masked_fill_(~visible_keys(span, window, query.device), float("-inf"))
            result = torch.einsum("hgqk,hkd->qhgd", scores.softmax(dim=-1), values)
            output[part] = result.flatten(1, 2)
        return output


def make_step(sizes: AttentionSizes, lengths: list[tuple[int, int]], seed: int = 0) -> PagedStep:
    """(query tokens, context) of each sequence; the batch's rows stand in shuffled order."""
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-context // sizes.block_size) for _, context in lengths]
    num_blocks = sum(counts) + 3
    shape = (num_blocks, sizes.kv_heads, sizes.block_size, sizes.head_dim)
    keys, values = (torch.full(shape, torch.nan, dtype=sizes.dtype) for _ in range(2))
    free = (torch.randperm(num_blocks - 1, generator=generator) + 1).tolist()
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    # Entries that no sequence reads name the one block that is NaN throughout.
    tables = np.full((len(lengths), max(counts)), free.pop(), dtype=np.int64)
    spans, start = [], 0
    for row, count, (length, context) in zip(rows, counts, lengths, strict=True):
        tables[row, :count] = [free.pop() for _ in range(count)]
        for cache in (keys, values):
            content = torch.randn(context, sizes.kv_heads, sizes.head_dim, generator=generator)
            for token in range(0, context, sizes.block_size):
                part = content[token : token + sizes.block_size].transpose(0, 1)
                block = tables[row, token // sizes.block_size]
                cache[block, :, : part.shape[1]] = part.to(sizes.dtype)
        spans.append((row, start, length, context))
        start += length
    query = torch.randn(start, sizes.heads, sizes.head_dim, generator=generator) * 2
    return PagedStep(sizes, np.array(spans, dtype=np.int64), tables, query, keys, values)
