"""Splits of a context that several programs share: how many, where they begin, their combination.

Of split i a program leaves, as `paged_tiles` defines them, `highest_i`, `total_i` and `sums_i`:

    result = Σ_i 2^(highest_i − max) sums_i / Σ_i 2^(highest_i − max) total_i

The order of these sums depends on the sequence's own splits alone.
"""

import triton
import triton.language as tl
from torch import Tensor

from .paged_tiles import LOWEST
from .variant import Variant

_CHUNK = 16  # splits combined at once; fixed, so that the order of sums is
_NUM_WARPS = 4

# Untuned: a split shorter than this costs more to combine than it saves, one longer than that
# leaves a lone long sequence on few SMs, and so many programs keep each SM's memory queue full.
SHORTEST_SPLIT_TOKENS = 256
LONGEST_SPLIT_TOKENS = 8192
_PROGRAMS_PER_SM = 4


@triton.jit
def split_range(
    context,
    num_splits,
    WINDOW: tl.constexpr,
    SPLIT_TOKENS: tl.constexpr,
    TILE: tl.constexpr,
):
    """First key that is seen, where the first split begins, and how long each split is.

    Splits are SPLIT_TOKENS long from a multiple of that if there are enough of them to cover the
    context, else even multiples of TILE.
    """
    first = 0
    if WINDOW > 0:
        first = tl.maximum(context - WINDOW, 0)
    begin = first // SPLIT_TOKENS * SPLIT_TOKENS
    even = tl.cdiv(tl.cdiv(context - begin, num_splits), TILE) * TILE
    return first, begin, tl.maximum(even, SPLIT_TOKENS)


@triton.jit(do_not_specialize=["num_splits"])
def _combine(
    sums,  # float32 [tokens, heads, splits, head_dim]
    states,  # float32 [tokens, heads, splits, 2 (highest, total)]
    contexts,
    out,
    value_scale,
    num_splits,
    out_stride_token,
    out_stride_head,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SPLIT_TOKENS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Σ 2^(highest_i − max) sums_i / Σ 2^(highest_i − max) total_i over the splits i in use."""
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    context = tl.load(contexts + sequence)
    _, begin, length = split_range(context, num_splits, WINDOW, SPLIT_TOKENS, TILE)
    used = tl.cdiv(context - begin, length)
    row = (sequence * tl.num_programs(1) + head) * num_splits
    dims = tl.arange(0, PADDED_DIM)
    dim_kept = dims < HEAD_DIM

    top = LOWEST
    for start in range(0, used, CHUNK):
        splits = start + tl.arange(0, CHUNK)
        highest = tl.load(states + (row + splits) * 2, mask=splits < used, other=LOWEST)
        top = tl.maximum(top, tl.max(highest, 0))
    total = 0.0
    result = tl.zeros((PADDED_DIM,), tl.float32)
    for start in range(0, used, CHUNK):
        splits = start + tl.arange(0, CHUNK)
        in_use = splits < used
        highest = tl.load(states + (row + splits) * 2, mask=in_use, other=LOWEST)
        totals = tl.load(states + (row + splits) * 2 + 1, mask=in_use, other=0.0)
        weights = tl.where(in_use, tl.exp2(highest - top), 0.0)
        part_kept = in_use[:, None] & dim_kept[None, :]
        offsets = (row + splits)[:, None] * HEAD_DIM + dims[None, :]
        part = tl.load(sums + offsets, mask=part_kept, other=0.0)
        total += tl.sum(weights * totals, 0)
        result += tl.sum(weights[:, None] * part, 0)
    result = result * value_scale / tl.where(total > 0.0, total, 1.0)
    out_row = out + sequence * out_stride_token + head * out_stride_head
    tl.store(out_row + dims, result.to(out.dtype.element_ty), mask=dim_kept)


def combine_splits(
    sums: Tensor,
    states: Tensor,
    contexts: Tensor,
    out: Tensor,
    *,
    v_scale: float,
    **constants: int,
) -> None:
    """Write to `out` [seqs, heads, head_dim] what the splits in use of each row come to.

    sums [seqs, heads, splits, head_dim] and states [seqs, heads, splits, 2] (highest, total) are
    float32 and contiguous, contexts [seqs] int32. The `constants` are the decode kernel's.
    """
    num_seqs, heads, splits = sums.shape[:3]
    assert sums.is_contiguous() and states.is_contiguous() and states.shape[:3] == sums.shape[:3]
    assert out.shape == (num_seqs, heads, sums.shape[3]) and out.stride(2) == 1
    _combine[(num_seqs, heads)](
        sums,
        states,
        contexts,
        out,
        float(v_scale),
        splits,
        out.stride(0),
        out.stride(1),
        CHUNK=_CHUNK,
        num_warps=_NUM_WARPS,
        **constants,
    )


def num_splits(
    programs: int, max_context: int, window: int, split_tokens: int, multiprocessors: int
) -> int:
    """How many programs share a (sequence, KV head), of which there are `programs`.

    With `split_tokens`, as many as the longest possible context has; without, as many as the chip
    has room for, within the shortest and longest split that pay.
    """
    shortest = split_tokens or SHORTEST_SPLIT_TOKENS
    longest = min(max_context, window + shortest - 1) if window > 0 else max_context
    most = max(1, -(-longest // shortest))
    if split_tokens:
        return most
    wanted = -(-_PROGRAMS_PER_SM * multiprocessors // max(1, programs))
    return min(most, max(wanted, -(-longest // LONGEST_SPLIT_TOKENS)))


def variants() -> list[Variant]:
    """One, since nothing but the head size changes its code."""
    return [
        Variant(
            name="combine_attention_128_bfloat16",
            kernel=_combine,
            signature={
                "sums": "*fp32",
                "states": "*fp32",
                "contexts": "*i32",
                "out": "*bf16",
                "value_scale": "fp32",
                "num_splits": "i32",
                "out_stride_token": "i32",
                "out_stride_head": "i32",
            },
            constants={
                "HEAD_DIM": 128,
                "PADDED_DIM": 128,
                "TILE": 64,
                "WINDOW": 0,
                "SPLIT_TOKENS": SHORTEST_SPLIT_TOKENS,
                "CHUNK": _CHUNK,
            },
            num_warps=_NUM_WARPS,
            aligned=frozenset({"out_stride_token", "out_stride_head"}),
            may_spill=False,
        )
    ]
