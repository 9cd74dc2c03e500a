"""Rotary embedding of queries and keys, and the write of keys and values into their blocks, in one
launch (references: `kernels/rotary.py`, `kernels/norm.py`, `kernels/kv_write.py`).

With x split in its lower and upper half (dimension i is paired with i + head_dim / 2):

    low'  = low * cos - high * sin
    high' = high * cos + low * sin

Qwen3 normalises each head of q and k before that: x / sqrt(mean(x^2) + eps) * weight. All of it is
in float32, rounded once at the end. A cache in float8_e4m3fn gets x / scale within +-448.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .variant import TRITON_TYPES, Variant

MAX_HEAD_DIM = 512

# (heads a program, warps) by half the head size, padded. Untuned: a thread holds 8 values of each
# half, one 16-byte load of bfloat16, and a program covers the KV heads of most models.
_TILES = {16: (16, 1), 32: (16, 2), 64: (8, 2), 128: (4, 2), 256: (2, 2)}


@triton.jit
def _to_float8_bits(x):
    """The bits of float8_e4m3fn nearest to x, ties to even; x beyond +-448 becomes +-448.

    Integer arithmetic, because only compute capability 8.9 and above convert in hardware.
    """
    bits = x.to(tl.int32, bitcast=True)
    sign = (bits >> 24) & 0x80
    size = tl.minimum(tl.abs(x), 448.0)
    # Normal numbers: keep 3 of the 23 bits of the fraction; the exponent's bias is 7, not 127.
    size_bits = size.to(tl.int32, bitcast=True)
    normal = ((size_bits + 0x7FFFF + ((size_bits >> 20) & 1)) >> 20) - (120 << 3)
    # Below 2^-6 the step is 2^-9, which is the step of float32 just above 2^14.
    subnormal = (size + 16384.0).to(tl.int32, bitcast=True) & 0xFF
    code = tl.where(size < 0.015625, subnormal, normal)
    code = tl.where(x != x, 0x7F, code)
    return (sign | code).to(tl.uint8)


@triton.jit
def _store_halves(pointers, low, high, inside, HALF: tl.constexpr, FP8: tl.constexpr):
    """Store both halves of each head, in the type that the pointers have."""
    if FP8:
        tl.store(pointers, _to_float8_bits(low), mask=inside)
        tl.store(pointers + HALF, _to_float8_bits(high), mask=inside)
    else:
        kind = pointers.dtype.element_ty
        tl.store(pointers, low.to(kind), mask=inside)
        tl.store(pointers + HALF, high.to(kind), mask=inside)


@triton.jit
def _normalise_halves(low, high, weight_pointer, columns, in_half, eps, HALF: tl.constexpr):
    """RMSNorm of each head, given and returned in halves [heads, half]."""
    squares = tl.sum(low * low, axis=1) + tl.sum(high * high, axis=1)
    scale = tl.rsqrt(squares / (2 * HALF) + eps)[:, None]
    weight = tl.load(weight_pointer + columns, mask=in_half, other=0.0).to(tl.float32)
    low = low * scale * weight[None, :]
    weight = tl.load(weight_pointer + HALF + columns, mask=in_half, other=0.0).to(tl.float32)
    high = high * scale * weight[None, :]
    return low, high


@triton.jit
def _rotate_and_write_kernel(
    qkv_pointer,
    positions_pointer,
    slots_pointer,
    cos_pointer,
    sin_pointer,
    q_norm_pointer,
    k_norm_pointer,
    query_pointer,
    key_cache_pointer,
    value_cache_pointer,
    num_heads,
    num_kv_heads,
    block_size,
    qkv_stride,
    table_stride,
    query_stride,
    key_block_stride,
    key_head_stride,
    key_slot_stride,
    value_block_stride,
    value_head_stride,
    value_slot_stride,
    eps,
    k_scale,
    v_scale,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    HEADS: tl.constexpr,
    NORMS: tl.constexpr,
    FP8: tl.constexpr,
):
    """HEADS heads of one token: the first programs take its query heads, the last its KV heads.

    A program of KV heads rotates and writes their keys, then copies their values.
    """
    token = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    query_tiles = tl.cdiv(num_heads, HEADS)
    columns = tl.arange(0, BLOCK)
    in_half = columns < HALF
    position = tl.load(positions_pointer + token).to(tl.int64)
    angles = position * table_stride + columns
    cos = tl.load(cos_pointer + angles, mask=in_half, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(sin_pointer + angles, mask=in_half, other=0.0).to(tl.float32)[None, :]
    row = qkv_pointer + token * qkv_stride
    if tile < query_tiles:
        heads = tile * HEADS + tl.arange(0, HEADS)
        inside = (heads < num_heads)[:, None] & in_half[None, :]
        offsets = heads[:, None] * (2 * HALF) + columns[None, :]
        low = tl.load(row + offsets, mask=inside, other=0.0).to(tl.float32)
        high = tl.load(row + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
        if NORMS:
            low, high = _normalise_halves(low, high, q_norm_pointer, columns, in_half, eps, HALF)
        rotated_low = low * cos - high * sin
        rotated_high = high * cos + low * sin
        query_target = query_pointer + token * query_stride + offsets
        _store_halves(query_target, rotated_low, rotated_high, inside, HALF, False)
    else:
        heads = (tile - query_tiles) * HEADS + tl.arange(0, HEADS)
        inside = (heads < num_kv_heads)[:, None] & in_half[None, :]
        slot = tl.load(slots_pointer + token).to(tl.int64)
        block = slot // block_size
        offset = slot % block_size
        offsets = (num_heads + heads)[:, None] * (2 * HALF) + columns[None, :]
        low = tl.load(row + offsets, mask=inside, other=0.0).to(tl.float32)
        high = tl.load(row + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
        offsets += num_kv_heads * (2 * HALF)
        value_low = tl.load(row + offsets, mask=inside, other=0.0).to(tl.float32)
        value_high = tl.load(row + offsets + HALF, mask=inside, other=0.0).to(tl.float32)
        if NORMS:
            low, high = _normalise_halves(low, high, k_norm_pointer, columns, in_half, eps, HALF)
        key_low = low * cos - high * sin
        key_high = high * cos + low * sin
        if FP8:
            key_low = tl.div_rn(key_low, k_scale)
            key_high = tl.div_rn(key_high, k_scale)
            value_low = tl.div_rn(value_low, v_scale)
            value_high = tl.div_rn(value_high, v_scale)
        start = block * key_block_stride + offset * key_slot_stride
        key_target = key_cache_pointer + start + heads[:, None] * key_head_stride + columns[None, :]
        _store_halves(key_target, key_low, key_high, inside, HALF, FP8)
        start = block * value_block_stride + offset * value_slot_stride
        value_target = (
            value_cache_pointer + start + heads[:, None] * value_head_stride + columns[None, :]
        )
        _store_halves(value_target, value_low, value_high, inside, HALF, FP8)


def rotate_and_write(
    qkv: Tensor,
    positions: Tensor,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    num_heads: int,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 0.0,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Tensor:
    """Rotated queries [tokens, heads, head_dim] of qkv; its keys and values go into the caches.

    qkv [tokens, (heads + 2 * kv_heads) * head_dim], rows of any stride; positions and slots
    [tokens], int32 or int64; cos and sin [max_positions, head_dim / 2] in qkv's type or float32;
    caches [blocks, kv_heads, block_size, head_dim] in qkv's type or float8_e4m3fn, written in slot
    `slots[t]` = block * block_size + offset (padding tokens point into block 0, in any order).
    `q_norm` and `k_norm` [head_dim] are the weights of the norm of each head, with `eps`. The
    scales divide keys and values that go into float8 caches.
    """
    head_dim = key_cache.shape[-1]
    num_kv_heads, block_size = key_cache.shape[1:3]
    tokens = qkv.shape[0]
    fp8 = key_cache.dtype == torch.float8_e4m3fn
    _check_inputs(qkv, positions, slots, cos, sin, (num_heads + 2 * num_kv_heads), head_dim)
    _check_caches(key_cache, value_cache, qkv.dtype)
    if (q_norm is None) != (k_norm is None):
        raise ValueError("q_norm and k_norm go together")
    for weight in (q_norm, k_norm):
        if weight is not None and (weight.shape != (head_dim,) or not weight.is_contiguous()):
            raise ValueError(f"q_norm and k_norm must be contiguous [{head_dim}]")
    if not fp8 and (k_scale != 1.0 or v_scale != 1.0):
        raise ValueError("k_scale and v_scale are for float8 caches only")
    query = torch.empty((tokens, num_heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    if tokens == 0:
        return query
    if fp8:
        key_cache, value_cache = key_cache.view(torch.uint8), value_cache.view(torch.uint8)
    constants, warps = _tile(head_dim)
    heads = constants["HEADS"]
    grid = (tokens, triton.cdiv(num_heads, heads) + triton.cdiv(num_kv_heads, heads))
    _rotate_and_write_kernel[grid](
        qkv,
        positions,
        slots,
        cos,
        sin,
        q_norm,
        k_norm,
        query,
        key_cache,
        value_cache,
        num_heads,
        num_kv_heads,
        block_size,
        qkv.stride(0),
        cos.stride(0),
        query.stride(0),
        *key_cache.stride()[:3],
        *value_cache.stride()[:3],
        float(eps),
        float(k_scale),
        float(v_scale),
        **constants,
        NORMS=q_norm is not None,
        FP8=fp8,
        num_warps=warps,
    )
    return query


def _check_inputs(
    qkv: Tensor,
    positions: Tensor,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    all_heads: int,
    head_dim: int,
) -> None:
    if head_dim % 2 or not 0 < head_dim <= MAX_HEAD_DIM:
        raise ValueError(f"head size {head_dim} is not even and in 2..{MAX_HEAD_DIM}")
    if qkv.dim() != 2 or qkv.shape[1] != all_heads * head_dim or qkv.stride(1) != 1:
        raise ValueError(
            f"qkv must be [tokens, {all_heads} * {head_dim}] with dense rows, got {list(qkv.shape)}"
        )
    for name, index in (("positions", positions), ("slots", slots)):
        if index.shape != qkv.shape[:1] or index.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{name} must be [{qkv.shape[0]}] int32 or int64")
        if not index.is_contiguous():
            raise ValueError(f"{name} must be contiguous")
    if cos.shape != sin.shape or cos.dim() != 2 or cos.shape[1] != head_dim // 2:
        raise ValueError(f"cos and sin must be [max_positions, {head_dim // 2}]")
    if cos.dtype != sin.dtype or cos.dtype not in (qkv.dtype, torch.float32):
        raise ValueError(f"cos and sin must be both {qkv.dtype} or both float32")
    if not cos.is_contiguous() or not sin.is_contiguous():
        raise ValueError("cos and sin must be contiguous")


def _check_caches(key_cache: Tensor, value_cache: Tensor, dtype: torch.dtype) -> None:
    if key_cache.dim() != 4 or key_cache.shape != value_cache.shape:
        raise ValueError("caches must both be [blocks, kv_heads, block_size, head_dim]")
    if key_cache.dtype != value_cache.dtype or key_cache.dtype not in (dtype, torch.float8_e4m3fn):
        raise ValueError(f"caches must both be {dtype} or float8_e4m3fn, got {key_cache.dtype}")
    if key_cache.stride(3) != 1 or value_cache.stride(3) != 1:
        raise ValueError("the values of a head in a cache must lie side by side")


def _tile(head_dim: int) -> tuple[dict[str, int], int]:
    half = head_dim // 2
    block = max(triton.next_power_of_2(half), min(_TILES))
    heads, warps = _TILES[block]
    return {"HALF": half, "BLOCK": block, "HEADS": heads}, warps


def variants() -> list[Variant]:
    """Head sizes 64, 80 and 128, with and without the norm of heads, plain and float8 caches."""
    return [
        _variant("rotary_64_bf16", 64, "bfloat16", "bfloat16"),
        _variant("rotary_128_bf16", 128, "bfloat16", "bfloat16"),
        _variant("rotary_128_bf16_qk_norm", 128, "bfloat16", "bfloat16", norms=True),
        _variant("rotary_128_bf16_fp8_cache", 128, "bfloat16", "uint8"),
        _variant("rotary_80_fp32", 80, "float32", "float32"),
    ]


def _variant(
    name: str, head_dim: int, dtype: str, cache_dtype: str, norms: bool = False
) -> Variant:
    kind, cache = "*" + TRITON_TYPES[dtype], "*" + TRITON_TYPES[cache_dtype]
    constants, warps = _tile(head_dim)
    strides = {
        argument
        for argument in _rotate_and_write_kernel.arg_names
        if argument.endswith("_stride") and argument != "table_stride"
    }
    norm_pointers = ("q_norm_pointer", "k_norm_pointer")
    signature = {
        "qkv_pointer": kind,
        "positions_pointer": "*i64",
        "slots_pointer": "*i64",
        "cos_pointer": kind,
        "sin_pointer": kind,
        "query_pointer": kind,
        "key_cache_pointer": cache,
        "value_cache_pointer": cache,
        **dict.fromkeys(("num_heads", "num_kv_heads", "block_size", "table_stride"), "i32"),
        **dict.fromkeys(strides, "i32"),
        **dict.fromkeys(("eps", "k_scale", "v_scale"), "fp32"),
        **(dict.fromkeys(norm_pointers, kind) if norms else {}),
    }
    absent = {} if norms else dict.fromkeys(norm_pointers)
    return Variant(
        name,
        _rotate_and_write_kernel,
        signature,
        {**constants, "NORMS": norms, "FP8": cache_dtype == "uint8", **absent},
        num_warps=warps,
        aligned=frozenset(strides),
        may_spill=False,
    )
