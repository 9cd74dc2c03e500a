"""Causal attention of many new tokens per sequence over keys and values in blocks.

For query head h of the token at position p of its sequence, over the keys t ≤ p (t > p − window):

    out[p, h] = Σ_t softmax_t(q[p, h] · k[t] · scale) v[t]

after "FlashAttention-2" (Dao, 2023). A tile of queries holds consecutive tokens of one sequence
times the query heads of one KV head, so that the tile of one decoding sequence is short but the
same. Which tokens a tile holds is mapped on the host. Tiles of keys begin at fixed multiples.
"""

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from .paged_tiles import (
    LOWEST,
    TileShape,
    absorb,
    check_attention,
    load_full_rows,
    load_rows,
    score,
    slot_offsets,
    softmax_factors,
    stored_bits,
    widen,
)
from .variant import TRITON_TYPES, Variant

# By padded head size, for 2-byte models and for float32. Untuned: the largest tiles that spill few
# or no registers. Five stages, since a key's address waits for its block table entry.
_TILES = {
    16: TileShape(keys=64, rows=128, num_warps=8, num_stages=5),
    32: TileShape(keys=64, rows=128, num_warps=8, num_stages=5),
    64: TileShape(keys=64, rows=128, num_warps=8, num_stages=5),
    128: TileShape(keys=64, rows=128, num_warps=8, num_stages=5),
    256: TileShape(keys=32, rows=128, num_warps=8, num_stages=5),
}
_FLOAT32_TILES = {
    16: TileShape(keys=32, rows=32, num_warps=4, num_stages=3),
    32: TileShape(keys=32, rows=32, num_warps=4, num_stages=3),
    64: TileShape(keys=32, rows=32, num_warps=4, num_stages=3),
    128: TileShape(keys=16, rows=32, num_warps=4, num_stages=3),
    256: TileShape(keys=16, rows=16, num_warps=4, num_stages=3),
}


@triton.jit(do_not_specialize=["table_stride"])
def _prefill(
    query,
    key_cache,
    value_cache,
    block_tables,
    contexts,
    query_starts,
    tile_sequences,
    tile_offsets,
    out,
    exponent,
    cap_scale,
    value_scale,
    query_stride_token,
    query_stride_head,
    table_stride,
    cache_stride_block,
    cache_stride_head,
    cache_stride_slot,
    out_stride_token,
    out_stride_head,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_CAP: tl.constexpr,
    ONE_LOOP: tl.constexpr,  # full tiles through the code of masked ones, so bits cannot differ
):
    """One tile of queries: TOKENS tokens of one sequence, GROUP heads each."""
    TOKENS: tl.constexpr = ROWS // GROUP
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    sequence = tl.load(tile_sequences + tile).to(tl.int64)
    offset = tl.load(tile_offsets + tile)
    query_start = tl.load(query_starts + sequence)
    query_length = tl.load(query_starts + sequence + 1) - query_start
    context = tl.load(contexts + sequence)

    rows = tl.arange(0, ROWS)
    tokens = offset + rows // GROUP
    row_kept = (rows < TOKENS * GROUP) & (tokens < query_length)
    heads = kv_head * GROUP + rows % GROUP
    positions = context - query_length + tokens
    lowest_position = context - query_length + offset
    end = tl.minimum(lowest_position + TOKENS, context)  # of the keys that some row sees
    first = 0
    if WINDOW > 0:
        first = tl.maximum(lowest_position - WINDOW + 1, 0)

    dims = tl.arange(0, PADDED_DIM)
    token_rows = (query_start + tokens).to(tl.int64)
    query_rows = query + token_rows * query_stride_token + heads * query_stride_head
    q = load_rows(query_rows, row_kept, HEAD_DIM, PADDED_DIM)
    table = block_tables + sequence * table_stride
    keys_of_head = key_cache + kv_head * cache_stride_head
    values_of_head = value_cache + kv_head * cache_stride_head

    highest = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, PADDED_DIM), tl.float32)
    masked_from = first // TILE * TILE
    if WINDOW == 0 and not ONE_LOOP:
        masked_from = (lowest_position + 1) // TILE * TILE
        for start in range(0, masked_from, TILE):
            keys = start + tl.arange(0, TILE)
            blocks = tl.load(table + keys // BLOCK_SIZE)
            slots = slot_offsets(blocks, keys, cache_stride_block, cache_stride_slot, BLOCK_SIZE)
            k = widen(load_full_rows(keys_of_head + slots, HEAD_DIM, PADDED_DIM), q.dtype)
            v = widen(load_full_rows(values_of_head + slots, HEAD_DIM, PADDED_DIM), q.dtype)
            scores = score(q, k, cap_scale, HAS_CAP)
            highest, total, sums = absorb(scores, v, highest, total, sums, exponent)
    for start in range(masked_from, end, TILE):
        keys = start + tl.arange(0, TILE)
        seen = (keys < end) & (keys >= first)  # by some row
        blocks = tl.load(table + keys // BLOCK_SIZE, mask=seen, other=0)
        slots = slot_offsets(blocks, keys, cache_stride_block, cache_stride_slot, BLOCK_SIZE)
        k = widen(load_rows(keys_of_head + slots, seen, HEAD_DIM, PADDED_DIM), q.dtype)
        v = widen(load_rows(values_of_head + slots, seen, HEAD_DIM, PADDED_DIM), q.dtype)
        visible = keys[None, :] <= positions[:, None]
        if WINDOW > 0:
            visible = visible & (keys[None, :] > positions[:, None] - WINDOW)
        scores = tl.where(visible, score(q, k, cap_scale, HAS_CAP), float("-inf"))
        highest, total, sums = absorb(scores, v, highest, total, sums, exponent)

    result = sums * value_scale / tl.where(total > 0.0, total, 1.0)[:, None]
    out_rows = out + token_rows * out_stride_token + heads * out_stride_head
    out_kept = row_kept[:, None] & (dims < HEAD_DIM)[None, :]
    tl.store(out_rows[:, None] + dims[None, :], result.to(out.dtype.element_ty), mask=out_kept)


def prefill_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    contexts: Tensor,
    query_starts: Tensor,
    tile_sequences: Tensor,
    tile_offsets: Tensor,
    out: Tensor,
    *,
    tokens_per_tile: int,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
    deterministic: bool = False,
) -> None:
    """The tokens of every tile of `map_tiles`, from `query` [tokens, heads, head_dim] to `out`.

    Sequence s has the tokens query_starts[s]..query_starts[s + 1], the last ones of contexts[s];
    their keys and values lie in the caches already. Caches [blocks, kv_heads, block_size, head_dim]
    of query's type or float8_e4m3fn (times k_scale, v_scale). block_tables [seqs, blocks], contexts
    [seqs], query_starts [seqs + 1], tile_sequences and tile_offsets [tiles] are int32. With
    `deterministic`, a row's bits depend on its own sequence alone. Raises ValueError if something
    does not fit.
    """
    check_attention(query, key_cache, value_cache, out)
    heads, head_dim = query.shape[1:]
    kv_heads, block_size = key_cache.shape[1:3]
    if len(block_tables) != len(contexts) or len(query_starts) != len(contexts) + 1:
        raise ValueError(
            f"{len(contexts)} contexts, {len(block_tables)} tables, {len(query_starts)} starts"
        )
    tile = tile_shape(head_dim, query.dtype)
    group = heads // kv_heads
    expected = tile_tokens(head_dim, query.dtype, group)
    if tokens_per_tile != expected:
        raise ValueError(f"tiles must hold {expected} tokens for this query, got {tokens_per_tile}")
    exponent, cap_scale = softmax_factors(scale, soft_cap, k_scale)
    _prefill[(len(tile_sequences), kv_heads)](
        query,
        stored_bits(key_cache),
        stored_bits(value_cache),
        block_tables,
        contexts,
        query_starts,
        tile_sequences,
        tile_offsets,
        out,
        exponent,
        cap_scale,
        float(v_scale),  # the launcher would take an integer 1 for a constant
        query.stride(0),
        query.stride(1),
        block_tables.stride(0),
        *key_cache.stride()[:3],
        out.stride(0),
        out.stride(1),
        HEAD_DIM=head_dim,
        PADDED_DIM=triton.next_power_of_2(head_dim),
        GROUP=group,
        ROWS=tile.rows,
        BLOCK_SIZE=block_size,
        TILE=tile.keys,
        WINDOW=window,
        HAS_CAP=soft_cap > 0.0,
        ONE_LOOP=deterministic,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def tile_tokens(head_dim: int, dtype: torch.dtype, group: int) -> int:
    """How many tokens a tile of queries holds when `group` query heads share a KV head."""
    rows = tile_shape(head_dim, dtype).rows
    if not 1 <= group <= rows:
        raise ValueError(f"at most {rows} query heads may share a KV head, got {group}")
    return rows // group


def map_tiles(
    query_lengths: NDArray[np.int64], contexts: NDArray[np.int64], tokens: int
) -> NDArray[np.int32]:
    """Tiles of `tokens` tokens: [2, tiles], a tile's sequence and its first token's index therein.

    The tiles that read the most keys come first, so that no long one is left to run alone at the
    end. A sequence of length 0 has no tile.
    """
    counts = -(-query_lengths // tokens)
    sequences = np.repeat(np.arange(len(counts)), counts)
    first_tiles = np.repeat(np.cumsum(counts) - counts, counts)
    offsets = (np.arange(len(sequences)) - first_tiles) * tokens
    ends = np.minimum((contexts - query_lengths)[sequences] + offsets + tokens, contexts[sequences])
    order = np.argsort(-ends, kind="stable")
    return np.stack([sequences[order], offsets[order]]).astype(np.int32)


def tile_shape(head_dim: int, dtype: torch.dtype) -> TileShape:
    """The tile of the prefill kernel for this head size and query type."""
    tiles = _FLOAT32_TILES if dtype == torch.float32 else _TILES
    return tiles[triton.next_power_of_2(head_dim)]


def variants() -> list[Variant]:
    """The usual head sizes in bfloat16, 128 in float32, and the features that add code.

    A float8 cache is compiled as bytes, since sm_80 does not know the type itself.
    """
    shared = {"head_dim": 128, "dtype": torch.bfloat16}
    options: list[dict[str, Any]] = [
        *({"head_dim": head_dim, "dtype": torch.bfloat16} for head_dim in (64, 128, 256)),
        {**shared, "dtype": torch.float32},
        {**shared, "as_bytes": True},
        {**shared, "one_loop": True},
        {**shared, "window": 4096, "capped": True},
    ]
    return [_variant(**option) for option in options]


def _variant(
    head_dim: int,
    dtype: torch.dtype,
    as_bytes: bool = False,
    window: int = 0,
    capped: bool = False,
    one_loop: bool = False,
) -> Variant:
    model = str(dtype).removeprefix("torch.")
    tile = tile_shape(head_dim, dtype)
    features = {"float8_bytes": as_bytes, "one_loop": one_loop, "window": window, "cap": capped}
    name = "_".join(
        ["prefill_attention", str(head_dim), model, *(f for f in features if features[f])]
    )
    strides = ["query_stride_token", "query_stride_head", "cache_stride_block"]
    strides += ["cache_stride_head", "cache_stride_slot", "out_stride_token", "out_stride_head"]
    integers = ["block_tables", "contexts", "query_starts", "tile_sequences", "tile_offsets"]
    return Variant(
        name=name,
        kernel=_prefill,
        signature={
            "query": "*" + TRITON_TYPES[model],
            "key_cache": "*" + TRITON_TYPES["uint8" if as_bytes else model],
            "value_cache": "*" + TRITON_TYPES["uint8" if as_bytes else model],
            **dict.fromkeys(integers, "*i32"),
            "out": "*" + TRITON_TYPES[model],
            "exponent": "fp32",
            "cap_scale": "fp32",
            "value_scale": "fp32",
            "table_stride": "i32",
            **dict.fromkeys(strides, "i32"),
        },
        constants={
            "HEAD_DIM": head_dim,
            "PADDED_DIM": triton.next_power_of_2(head_dim),
            "GROUP": 4,
            "ROWS": tile.rows,
            "BLOCK_SIZE": 16,
            "TILE": tile.keys,
            "WINDOW": window,
            "HAS_CAP": capped,
            "ONE_LOOP": one_loop,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        aligned=frozenset(strides),
    )
