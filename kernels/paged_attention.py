"""Attention of new tokens over keys and values that lie in blocks.

For the query token at position p of a sequence, keys 0..p of that sequence count (the last `window`
of them if `window > 0`): softmax(q · k * scale) v, query heads grouped over KV heads. Paged after
"Efficient Memory Management for Large Language Model Serving with PagedAttention" (Kwon et al.,
2023).

Shapes: query [tokens, heads, head_dim]; key_cache and value_cache [blocks, kv_heads, block_size,
head_dim]; block_tables [rows, max_blocks] int64. Results have the query's shape and type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence's part of a batch: its block table's row, its query tokens, and its length.

    The query tokens are [start, start + length) of the batch and the last `length` of `context`.
    """

    row: int
    start: int
    length: int
    context: int


@dataclass(slots=True)
class DecodeGroup:
    """Sequences of one query token each, computed together, padded to the longest of them."""

    tokens: Tensor  # [seqs] index of each query token in the batch
    tables: Tensor  # [seqs, num_blocks]
    contexts: Tensor  # [seqs, 1]
    hidden: dict[int, Tensor] = field(default_factory=dict)  # by window: [seqs, length], True = no


@dataclass(slots=True)
class PrefillSpan:
    """A sequence with several query tokens; `table` holds the blocks of its context."""

    span: SequenceSpan
    table: Tensor  # [num_blocks]
    visible: dict[int, Tensor] = field(default_factory=dict)  # by window: [length, context]


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """What all layers of a step share: made once a step by `plan_attention`."""

    groups: tuple[DecodeGroup, ...]
    prefills: tuple[PrefillSpan, ...]


def plan_attention(
    spans: Sequence[SequenceSpan], block_tables: Tensor, block_size: int
) -> AttentionPlan:
    """Group the sequences of a step: single tokens of similar context together, others alone."""
    singles = [span for span in spans if span.length == 1]
    prefills = [
        PrefillSpan(span, block_tables[span.row, : -(-span.context // block_size)])
        for span in spans
        if span.length != 1
    ]
    groups = []
    for members in _of_similar_context(singles):
        num_blocks = -(-members[0].context // block_size)
        packed = torch.tensor([(m.start, m.row, m.context) for m in members])
        packed = packed.to(block_tables.device)
        tables = block_tables[packed[:, 1], :num_blocks]
        groups.append(DecodeGroup(packed[:, 0], tables, packed[:, 2:]))
    return AttentionPlan(tuple(groups), tuple(prefills))


def plan_step(
    spans: NDArray[np.int64], tables: NDArray[np.int64], block_size: int, device: torch.device
) -> AttentionPlan:
    """`plan_attention` of a step's arrays: spans [seqs, 4], the fields of a SequenceSpan each."""
    return plan_attention(
        [SequenceSpan(*span) for span in spans.tolist()],
        torch.from_numpy(tables).to(device),
        block_size,
    )


def _of_similar_context(spans: Sequence[SequenceSpan]) -> list[list[SequenceSpan]]:
    """Split so that padding at most doubles what a group reads; longest first."""
    groups: list[list[SequenceSpan]] = []
    for span in sorted(spans, key=lambda span: span.context, reverse=True):
        if groups and span.context * 2 >= groups[-1][0].context:
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    plan: AttentionPlan,
    scale: float,
    window: int = 0,
) -> Tensor:
    """Attention by torch's fused kernels over gathered blocks."""
    output = torch.empty_like(query)
    for group in plan.groups:
        result = _attend_group(query, key_cache, value_cache, group, scale, window)
        if len(result) == len(query):
            return _in_order(result, group)
        output[group.tokens] = result
    for prefill in plan.prefills:
        _attend_prefill(output, query, key_cache, value_cache, prefill, scale, window)
    return output


def _in_order(result: Tensor, group: DecodeGroup) -> Tensor:
    return torch.empty_like(result).index_copy_(0, group.tokens, result)


def _attend_group(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    group: DecodeGroup,
    scale: float,
    window: int,
) -> Tensor:
    kv_heads, block_size, head_dim = key_cache.shape[1:]
    num_seqs, num_blocks = group.tables.shape
    shape = (num_seqs, kv_heads, num_blocks * block_size, head_dim)
    keys = key_cache[group.tables].transpose(1, 2).reshape(shape)
    values = value_cache[group.tables].transpose(1, 2).reshape(shape)
    hidden = group.hidden.get(window)
    if hidden is None:
        slots = torch.arange(shape[2], device=query.device)
        hidden = slots >= group.contexts
        if window > 0:
            hidden |= slots < group.contexts - window
        group.hidden[window] = hidden
    # Slots beyond a context may hold anything, NaN included, which no additive mask can hide.
    keys.masked_fill_(hidden[:, None, :, None], 0.0)
    values.masked_fill_(hidden[:, None, :, None], 0.0)
    grouped = query[group.tokens].view(num_seqs, kv_heads, -1, head_dim)
    result = F.scaled_dot_product_attention(
        grouped, keys, values, attn_mask=~hidden[:, None, None, :], scale=scale
    )
    return result.reshape(num_seqs, -1, head_dim)


def _attend_prefill(
    output: Tensor,
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    prefill: PrefillSpan,
    scale: float,
    window: int,
) -> None:
    span = prefill.span
    part = slice(span.start, span.start + span.length)
    whole = span.length == span.context and (window == 0 or span.length <= window)
    mask = None
    if not whole:
        mask = prefill.visible.get(window)
        if mask is None:
            mask = prefill.visible[window] = visible_keys(span, window, query.device)
    result = F.scaled_dot_product_attention(
        query[part].transpose(0, 1)[None],  # [1, heads, length, head_dim]
        gather_blocks(key_cache, prefill.table, span.context)[None],
        gather_blocks(value_cache, prefill.table, span.context)[None],
        attn_mask=mask,
        is_causal=whole,
        scale=scale,
        enable_gqa=True,
    )
    output[part] = result[0].transpose(0, 1)


def visible_keys(span: SequenceSpan, window: int, device: torch.device) -> Tensor:
    """Which keys each query token may read: bool [length, context]."""
    positions = torch.arange(span.context - span.length, span.context, device=device)[:, None]
    keys = torch.arange(span.context, device=device)[None, :]
    mask = keys <= positions
    if window > 0:
        mask &= keys > positions - window
    return mask


def gather_blocks(cache: Tensor, table: Tensor, context: int) -> Tensor:
    """The first `context` tokens of a sequence, copied together: [kv_heads, context, head_dim]."""
    blocks = cache[table]  # [num_blocks, kv_heads, block_size, head_dim]
    return blocks.transpose(0, 1).flatten(1, 2)[:, :context]


def paged_attention_reference(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    spans: Sequence[SequenceSpan],
    block_tables: Tensor,
    scale: float,
    window: int = 0,
) -> Tensor:
    """One sequence after the other, in float32: obviously right, and slow."""
    block_size = key_cache.shape[2]
    output = torch.empty_like(query)
    for span in spans:
        table = block_tables[span.row, : -(-span.context // block_size)]
        part = query[span.start : span.start + span.length].float()  # [length, heads, head_dim]
        groups = part.shape[1] // key_cache.shape[1]
        keys = gather_blocks(key_cache, table, span.context).float().repeat_interleave(groups, 0)
        values = gather_blocks(value_cache, table, span.context).float()
        values = values.repeat_interleave(groups, 0)  # [heads, context, head_dim]
        scores = torch.einsum("qhd,hkd->hqk", part, keys) * scale
        scores.masked_fill_(~visible_keys(span, window, query.device), float("-inf"))
        result = torch.einsum("hqk,hkd->qhd", scores.softmax(dim=-1), values)
        output[span.start : span.start + span.length] = result.to(query.dtype)
    return output
