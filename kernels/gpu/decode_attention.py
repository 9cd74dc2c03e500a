"""Attention of one new token per sequence over keys and values in blocks, split over the context.

For query head h of a sequence with `context` tokens, over the keys t that it sees:

    out[h] = Σ_t softmax_t(q[h] · k[t] · scale) v[t]

One program takes one sequence, one KV head and one split of the context, with all query heads of
that KV head as rows, so that each key and value is read once ("Flash-Decoding for long-context
inference", Dao et al., 2023). `context_splits` says where splits begin and combines them.
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .context_splits import SHORTEST_SPLIT_TOKENS, combine_splits, num_splits, split_range
from .paged_tiles import (
    LOWEST,
    TileShape,
    absorb,
    check_attention,
    load_rows,
    score,
    slot_offsets,
    softmax_factors,
    stored_bits,
    widen,
)
from .variant import TRITON_TYPES, Variant

# By padded head size, for 2-byte models and for float32. Untuned: the largest tiles that let two or
# three programs live on an SM without spilling. Five stages, since a key's address waits for its
# block table entry: half of them hold entries, half keys and values.
_TILES = {
    16: TileShape(keys=64, rows=16, num_warps=4, num_stages=5),
    32: TileShape(keys=64, rows=16, num_warps=4, num_stages=5),
    64: TileShape(keys=64, rows=16, num_warps=4, num_stages=5),
    128: TileShape(keys=64, rows=16, num_warps=4, num_stages=5),
    256: TileShape(keys=32, rows=16, num_warps=4, num_stages=5),
}
_FLOAT32_TILES = {
    16: TileShape(keys=32, rows=16, num_warps=4, num_stages=5),
    32: TileShape(keys=32, rows=16, num_warps=4, num_stages=5),
    64: TileShape(keys=32, rows=16, num_warps=4, num_stages=5),
    128: TileShape(keys=32, rows=16, num_warps=4, num_stages=5),
    256: TileShape(keys=16, rows=16, num_warps=4, num_stages=5),
}


@triton.jit(do_not_specialize=["table_stride"])
def _decode(
    query,
    key_cache,
    value_cache,
    block_tables,
    contexts,
    out,  # DIRECT: [tokens, heads, head_dim]; else float32 sums [tokens, heads, splits, head_dim]
    states,  # float32 [tokens, heads, splits, 2 (highest, total)], unused if DIRECT
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
    SPLIT_TOKENS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    DIRECT: tl.constexpr,
):
    """One split of one sequence's keys for the GROUP query heads of one KV head."""
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    num_splits = tl.num_programs(2)
    context = tl.load(contexts + sequence)
    first, begin, length = split_range(context, num_splits, WINDOW, SPLIT_TOKENS, TILE)
    begin += split * length
    end = tl.minimum(begin + length, context)
    if not DIRECT and begin >= context:
        return  # the reduction reads no such split

    rows = tl.arange(0, ROWS)
    row_kept = rows < GROUP
    heads = kv_head * GROUP + rows
    dims = tl.arange(0, PADDED_DIM)
    query_rows = query + sequence * query_stride_token + heads * query_stride_head
    q = load_rows(query_rows, row_kept, HEAD_DIM, PADDED_DIM)
    table = block_tables + sequence * table_stride
    keys_of_head = key_cache + kv_head * cache_stride_head
    values_of_head = value_cache + kv_head * cache_stride_head

    highest = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, PADDED_DIM), tl.float32)
    for start in range(tl.maximum(begin, first // TILE * TILE), end, TILE):
        keys = start + tl.arange(0, TILE)
        seen = keys < end
        if WINDOW > 0:
            seen = seen & (keys >= first)
        blocks = tl.load(table + keys // BLOCK_SIZE, mask=seen, other=0)
        slots = slot_offsets(blocks, keys, cache_stride_block, cache_stride_slot, BLOCK_SIZE)
        k = widen(load_rows(keys_of_head + slots, seen, HEAD_DIM, PADDED_DIM), q.dtype)
        v = widen(load_rows(values_of_head + slots, seen, HEAD_DIM, PADDED_DIM), q.dtype)
        scores = tl.where(seen[None, :], score(q, k, cap_scale, HAS_CAP), float("-inf"))
        highest, total, sums = absorb(scores, v, highest, total, sums, exponent)

    out_kept = row_kept[:, None] & (dims < HEAD_DIM)[None, :]
    out_rows = out + sequence * out_stride_token + heads * out_stride_head
    if DIRECT:
        divisor = tl.where(total > 0.0, total, 1.0)  # an empty sequence gets zeros
        result = sums * value_scale / divisor[:, None]
        result = result.to(out.dtype.element_ty)
        tl.store(out_rows[:, None] + dims[None, :], result, mask=out_kept)
    else:
        out_rows += split * HEAD_DIM
        tl.store(out_rows[:, None] + dims[None, :], sums, mask=out_kept)
        num_heads = tl.num_programs(1) * GROUP
        state = states + ((sequence * num_heads + heads) * num_splits + split) * 2
        tl.store(state, highest, mask=row_kept)
        tl.store(state + 1, total, mask=row_kept)


def decode_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    contexts: Tensor,
    out: Tensor,
    *,
    max_context: int,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
    split_tokens: int = 0,
) -> None:
    """Row i of `query` [seqs, heads, head_dim] is the last token of sequence i; result in `out`.

    Caches [blocks, kv_heads, block_size, head_dim] of query's type or float8_e4m3fn (times k_scale,
    v_scale); block_tables [seqs, blocks] and contexts [seqs] int32; no context exceeds
    `max_context`. A sequence whose context is 0 gets zeros. With `split_tokens` the context is cut
    at its multiples, so that a row's bits depend on its own sequence alone; without, as the number
    of programs asks. Raises ValueError if something does not fit.
    """
    check_attention(query, key_cache, value_cache, out)
    num_seqs, heads, head_dim = query.shape
    kv_heads, block_size = key_cache.shape[1:3]
    if len(block_tables) != num_seqs or len(contexts) != num_seqs:
        raise ValueError(f"{num_seqs} rows, {len(block_tables)} tables, {len(contexts)} contexts")
    tile = tile_shape(head_dim, query.dtype)
    if split_tokens % tile.keys:
        raise ValueError(f"split_tokens must be a multiple of {tile.keys}, got {split_tokens}")
    exponent, cap_scale = softmax_factors(scale, soft_cap, k_scale)
    splits = num_splits(
        num_seqs * kv_heads,
        max_context,
        window,
        split_tokens,
        _multiprocessors(query.device),
    )
    direct = splits == 1 and split_tokens == 0  # a fixed split takes the same way in any batch
    target, states = out, contexts
    if not direct:
        shape = (num_seqs, heads, splits)
        target = torch.empty((*shape, head_dim), dtype=torch.float32, device=query.device)
        states = torch.empty((*shape, 2), dtype=torch.float32, device=query.device)
    shared = _shared_constants(head_dim, tile, window, split_tokens or SHORTEST_SPLIT_TOKENS)
    _decode[(num_seqs, kv_heads, splits)](
        query,
        stored_bits(key_cache),
        stored_bits(value_cache),
        block_tables,
        contexts,
        target,
        states,
        exponent,
        cap_scale,
        float(v_scale),  # the launcher would take an integer 1 for a constant
        query.stride(0),
        query.stride(1),
        block_tables.stride(0),
        *key_cache.stride()[:3],
        target.stride(0),
        target.stride(1),
        GROUP=heads // kv_heads,
        ROWS=max(tile.rows, triton.next_power_of_2(heads // kv_heads)),
        BLOCK_SIZE=block_size,
        HAS_CAP=soft_cap > 0.0,
        DIRECT=direct,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        **shared,
    )
    if not direct:
        combine_splits(target, states, contexts, out, v_scale=v_scale, **shared)


def tile_shape(head_dim: int, dtype: torch.dtype) -> TileShape:
    """The tile of the decode kernel for this head size and query type."""
    tiles = _FLOAT32_TILES if dtype == torch.float32 else _TILES
    return tiles[triton.next_power_of_2(head_dim)]


@lru_cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 132
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _shared_constants(
    head_dim: int, tile: TileShape, window: int, split_tokens: int
) -> dict[str, int]:
    return {
        "HEAD_DIM": head_dim,
        "PADDED_DIM": triton.next_power_of_2(head_dim),
        "TILE": tile.keys,
        "WINDOW": window,
        "SPLIT_TOKENS": split_tokens,
    }


def variants() -> list[Variant]:
    """Every head size in bfloat16, 128 in the other types, and the features that add code.

    A float8 cache is compiled as bytes, since sm_80 does not know the type itself.
    """
    shared = {"head_dim": 128, "dtype": torch.bfloat16}
    options: list[dict[str, Any]] = [
        *({"head_dim": head_dim, "dtype": torch.bfloat16} for head_dim in (64, 80, 96, 128, 256)),
        {**shared, "dtype": torch.float16},
        {**shared, "dtype": torch.float32},
        {**shared, "as_bytes": True},
        {**shared, "direct": True},
        {**shared, "window": 4096, "capped": True},
    ]
    return [_variant(**option) for option in options]


def _variant(
    head_dim: int,
    dtype: torch.dtype,
    as_bytes: bool = False,
    window: int = 0,
    capped: bool = False,
    direct: bool = False,
) -> Variant:
    model = str(dtype).removeprefix("torch.")
    tile = tile_shape(head_dim, dtype)
    features = {"float8_bytes": as_bytes, "direct": direct, "window": window, "cap": capped}
    name = "_".join(
        ["decode_attention", str(head_dim), model, *(f for f in features if features[f])]
    )
    pointer = "*" + TRITON_TYPES[model]
    strides = ["query_stride_token", "query_stride_head", "cache_stride_block"]
    strides += ["cache_stride_head", "cache_stride_slot", "out_stride_token", "out_stride_head"]
    return Variant(
        name=name,
        kernel=_decode,
        signature={
            "query": pointer,
            "key_cache": "*" + TRITON_TYPES["uint8" if as_bytes else model],
            "value_cache": "*" + TRITON_TYPES["uint8" if as_bytes else model],
            "block_tables": "*i32",
            "contexts": "*i32",
            "out": pointer if direct else "*fp32",
            "states": "*fp32",
            "exponent": "fp32",
            "cap_scale": "fp32",
            "value_scale": "fp32",
            "table_stride": "i32",
            **dict.fromkeys(strides, "i32"),
        },
        constants={
            **_shared_constants(head_dim, tile, window, SHORTEST_SPLIT_TOKENS),
            "GROUP": 4,
            "ROWS": tile.rows,
            "BLOCK_SIZE": 16,
            "HAS_CAP": capped,
            "DIRECT": direct,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        aligned=frozenset(strides),
        may_spill=False,
    )
