"""Paged attention on the GPU: what a step looks like, and which kernels compute it.

A step is described twice. `AttentionSchedule` is made on the host from lengths; its tiles travel to
the device in whatever buffer the caller packs. `PagedAttentionPlan` binds the schedule to tensors
that lie on the device already, and is what every layer of the step reads. Nothing here waits for
the device, so a step can be captured in a CUDA graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .decode_attention import decode_attention
from .prefill_attention import map_tiles, prefill_attention, tile_tokens

# In a mixed step, sequences of one token and at most this context are tiles of the prefill kernel,
# in one launch with the others; longer ones would be alone on their SMs for long. Untuned.
MIXED_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class AttentionSchedule:
    """What to launch: known on the host.

    The first `num_decodes` sequences, of one token each, go through the decode kernel; `tiles`
    [2, num_tiles] int32 (a tile's sequence, its first token's index in it) cover all others with
    `tile_tokens` tokens each. No context of the decoded sequences exceeds `max_context`.
    `split_tokens` is 0, or the fixed length of splits that makes the step deterministic.
    """

    num_seqs: int
    num_decodes: int
    max_context: int
    tiles: NDArray[np.int32]
    tile_tokens: int
    split_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PagedAttentionPlan:
    """A schedule and its tensors on the device, all int32: what the layers of a step share."""

    schedule: AttentionSchedule
    block_tables: Tensor  # [seqs, max_blocks]
    contexts: Tensor  # [seqs], this step's tokens included
    query_starts: Tensor  # [seqs + 1]
    tiles: Tensor  # [2, num_tiles]


def query_tile_tokens(num_heads: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """`tile_tokens` of a model: how many query tokens one tile of the prefill kernel holds."""
    return tile_tokens(head_dim, dtype, num_heads // num_kv_heads)


def schedule_attention(
    query_lengths: Sequence[int],
    contexts: Sequence[int],
    *,
    num_decodes: int,
    tile_tokens: int,
    split_tokens: int = 0,
) -> AttentionSchedule:
    """A step of sequences with `query_lengths` new tokens that end at `contexts` tokens.

    The first `num_decodes` have one token each. With `split_tokens` (a multiple of 64, the same
    for the server's whole life) the step is deterministic: a token's bits depend on its sequence
    and on whether it counts among `num_decodes`, not on the batch or on chunking; with
    num_decodes = 0 always, on its sequence alone. Raises ValueError if the lengths do not agree.
    """
    lengths = np.asarray(query_lengths, dtype=np.int64)
    ends = np.asarray(contexts, dtype=np.int64)
    if lengths.shape != ends.shape or not 0 <= num_decodes <= len(lengths):
        raise ValueError(f"{len(lengths)} lengths, {len(ends)} contexts, {num_decodes} decodes")
    if (lengths[:num_decodes] != 1).any() or (lengths > ends)[num_decodes:].any():
        raise ValueError("a decode has one token, and no other sequence more than its context")
    max_context = int(ends[:num_decodes].max(initial=0))
    mixed = num_decodes < len(lengths)
    if mixed and not split_tokens and max_context <= MIXED_CONTEXT_TOKENS:
        num_decodes, max_context = 0, 0
    lengths[:num_decodes] = 0
    return AttentionSchedule(
        num_seqs=len(lengths),
        num_decodes=num_decodes,
        max_context=max_context,
        tiles=map_tiles(lengths, ends, tile_tokens),
        tile_tokens=tile_tokens,
        split_tokens=split_tokens,
    )


def schedule_decodes(num_seqs: int, max_context: int, split_tokens: int = 0) -> AttentionSchedule:
    """A step of one token for each of `num_seqs` sequences, for a CUDA graph to be captured.

    Their contexts may be anything up to `max_context`; those of padding rows are 0.
    """
    no_tiles = np.empty((2, 0), dtype=np.int32)
    return AttentionSchedule(num_seqs, num_seqs, max_context, no_tiles, 0, split_tokens)


def plan_paged_attention(
    schedule: AttentionSchedule,
    block_tables: Tensor,
    contexts: Tensor,
    query_starts: Tensor,
    tiles: Tensor,
) -> PagedAttentionPlan:
    """Bind a schedule to tensors on the device (views of any buffer), all int32.

    block_tables [seqs, max_blocks]; contexts [seqs]; query_starts [seqs + 1], each sequence's first
    row in the query, then their number; tiles [2, num_tiles], the schedule's. The tensors may be
    overwritten between steps of the same schedule. Raises ValueError if a shape or type is wrong.
    """
    expected = {
        "block_tables": (block_tables, (schedule.num_seqs, block_tables.shape[-1])),
        "contexts": (contexts, (schedule.num_seqs,)),
        "query_starts": (query_starts, (schedule.num_seqs + 1,)),
        "tiles": (tiles, schedule.tiles.shape),
    }
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape or tensor.dtype != torch.int32:
            raise ValueError(
                f"{name} must be int32 {list(shape)}, got {tensor.dtype} {list(tensor.shape)}"
            )
        if tensor.numel() and tensor.stride(-1) != 1:
            raise ValueError(f"the last dimension of {name} must be contiguous")
    return PagedAttentionPlan(schedule, block_tables, contexts, query_starts, tiles)


def attend(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    plan: PagedAttentionPlan,
    *,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """softmax(cap · tanh(q · k · scale / cap)) v of every new token over the keys it sees.

    query [tokens, heads, head_dim], rows in the order of the plan's sequences; key_cache and
    value_cache [blocks, kv_heads, block_size, head_dim] of the same type, or float8_e4m3fn with
    k_scale and v_scale what to multiply by. Keys and values of the new tokens lie in the caches
    already. With `window` > 0 a token sees the last `window` keys, itself included; soft_cap = 0
    means none. Slots that no token sees are never read. The result, in `out` if given, has the
    query's shape and type; a sequence whose context is 0 gets zeros. Raises ValueError if a shape,
    type or stride does not fit.
    """
    schedule = plan.schedule
    if out is None:
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    decodes = schedule.num_decodes
    if decodes:
        decode_attention(
            query[:decodes],
            key_cache,
            value_cache,
            plan.block_tables[:decodes],
            plan.contexts[:decodes],
            out[:decodes],
            max_context=schedule.max_context,
            scale=scale,
            window=window,
            soft_cap=soft_cap,
            k_scale=k_scale,
            v_scale=v_scale,
            split_tokens=schedule.split_tokens,
        )
    if plan.tiles.shape[1]:
        prefill_attention(
            query,
            key_cache,
            value_cache,
            plan.block_tables,
            plan.contexts,
            plan.query_starts,
            plan.tiles[0],
            plan.tiles[1],
            out,
            tokens_per_tile=schedule.tile_tokens,
            scale=scale,
            window=window,
            soft_cap=soft_cap,
            k_scale=k_scale,
            v_scale=v_scale,
            deterministic=schedule.split_tokens > 0,
        )
    return out
