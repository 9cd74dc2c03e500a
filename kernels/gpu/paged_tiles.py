"""What the attention kernels share: tiles of keys and values read from blocks, and the softmax.

The softmax is "Online normalizer calculation for softmax" (Milakov and Gimelshein, 2018) in base 2.
For each row of scores s, with `exponent` = scale · log2(e) (all of this in float32):

    highest = max(s) · exponent      total = Σ 2^(s · exponent − highest)
    sum     = Σ 2^(s · exponent − highest) · v      result = sum / total

A tile that shows nothing to a row leaves the row's three numbers exactly as they were, so a row's
result depends on the keys it sees and on where tiles begin, not on the other rows.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

LOWEST = tl.constexpr(-1.0e38)  # below every score, and finite: no inf - inf
LOG2_E = tl.constexpr(math.log2(math.e))
# Triton's interpreter multiplies the bit patterns of bfloat16; widened first, products are exact.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))

_FLOAT8 = torch.float8_e4m3fn
_MODEL_TYPES = (torch.bfloat16, torch.float16, torch.float32)
_MAX_HEAD_DIM = 256


@dataclass(frozen=True)
class TileShape:
    """Keys of a tile, query rows of a tile, and launch options."""

    keys: int
    rows: int
    num_warps: int
    num_stages: int


@triton.jit
def slot_offsets(blocks, keys, stride_block, stride_slot, BLOCK_SIZE: tl.constexpr):
    """Where the keys lie in one head's part of a cache; 64 bits, since caches exceed 2^31."""
    return blocks.to(tl.int64) * stride_block + (keys % BLOCK_SIZE) * stride_slot


@triton.jit
def load_rows(pointers, kept, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """[rows, PADDED_DIM], zero in rows not kept (they may hold NaN) and beyond HEAD_DIM."""
    dims = tl.arange(0, PADDED_DIM)
    if HEAD_DIM == PADDED_DIM:
        return tl.load(pointers[:, None] + dims[None, :], mask=kept[:, None], other=0.0)
    mask = kept[:, None] & (dims < HEAD_DIM)[None, :]
    return tl.load(pointers[:, None] + dims[None, :], mask=mask, other=0.0)


@triton.jit
def load_full_rows(pointers, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """[rows, PADDED_DIM] where every row is kept."""
    dims = tl.arange(0, PADDED_DIM)
    if HEAD_DIM == PADDED_DIM:
        return tl.load(pointers[:, None] + dims[None, :])
    return tl.load(pointers[:, None] + dims[None, :], mask=(dims < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def widen(tile, DTYPE: tl.constexpr):
    """Cached values in the type of the dot. Bytes are e4m3 bits, for chips without that type.

    Sign, exponent and mantissa go where float32 has its own, which scales by 2^(7 - 127).
    """
    if tile.dtype == tl.uint8:
        bits = tile.to(tl.uint32)
        bits = ((bits & 0x80) << 24) | ((bits & 0x7F) << 20)
        return (bits.to(tl.float32, bitcast=True) * 1.329227995784916e36).to(DTYPE)
    return tile.to(DTYPE)


@triton.jit
def dot(a, b, accumulator=None):
    """a @ b (+ accumulator) in float32; float32 operands are not rounded to TF32."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision="ieee")


@triton.jit
def score(query, keys, cap_scale, HAS_CAP: tl.constexpr):
    """query · keysᵀ, or its tanh(… · cap_scale), which the exponent then multiplies by the cap."""
    scores = dot(query, tl.trans(keys))
    if HAS_CAP:
        scores = 1.0 - 2.0 / (tl.exp2(scores * (cap_scale * 2.0 * LOG2_E)) + 1.0)
    return scores


@triton.jit
def absorb(scores, values, highest, total, sums, exponent):
    """Take one tile of scores (-inf where hidden) and values into a row's running numbers."""
    raised = tl.maximum(highest, tl.max(scores, 1) * exponent)
    weights = tl.exp2(scores * exponent - raised[:, None])
    fade = tl.exp2(highest - raised)
    sums = dot(weights.to(values.dtype), values, sums * fade[:, None])
    return raised, total * fade + tl.sum(weights, 1), sums


def softmax_factors(scale: float, soft_cap: float, k_scale: float) -> tuple[float, float]:
    """(exponent, cap_scale) of `absorb` and `score`."""
    if scale <= 0.0 or k_scale <= 0.0 or soft_cap < 0.0:
        raise ValueError(
            "scale and k_scale must be above 0 and soft_cap not below, "
            f"got {scale}, {k_scale} and {soft_cap}"
        )
    if soft_cap > 0.0:
        return soft_cap * LOG2_E.value, scale * k_scale / soft_cap
    return scale * k_scale * LOG2_E.value, 0.0


def stored_bits(cache: Tensor) -> Tensor:
    """The cache as the kernels read it: float8 as bytes where the chip has no such type."""
    if cache.dtype != _FLOAT8:
        return cache
    if cache.is_cuda and torch.cuda.get_device_capability(cache.device) >= (8, 9):
        return cache
    return cache.view(torch.uint8)


def check_attention(query: Tensor, key_cache: Tensor, value_cache: Tensor, out: Tensor) -> None:
    """Raise ValueError unless the kernels can read these tensors as they lie."""
    if query.dim() != 3 or key_cache.dim() != 4:
        raise ValueError(
            "query must be [tokens, heads, head_dim] and the caches [blocks, kv_heads, "
            f"block_size, head_dim], got {tuple(query.shape)} and {tuple(key_cache.shape)}"
        )
    heads, head_dim = query.shape[1:]
    kv_heads = key_cache.shape[1]
    if key_cache.shape != value_cache.shape or key_cache.stride() != value_cache.stride():
        raise ValueError("key_cache and value_cache must have the same shape and strides")
    if key_cache.shape[3] != head_dim or heads % kv_heads:
        raise ValueError(
            f"{heads} heads of {head_dim} do not fit caches of {kv_heads} of {key_cache.shape[3]}"
        )
    if head_dim % 16 or head_dim > _MAX_HEAD_DIM:
        raise ValueError(f"head_dim must be a multiple of 16 up to 256, got {head_dim}")
    if out.shape != query.shape or out.dtype != query.dtype:
        raise ValueError("out must have the shape and type of query")
    if not query.stride(2) == key_cache.stride(3) == out.stride(2) == 1:
        raise ValueError("the last dimension of query, caches and out must be contiguous")
    if query.dtype not in _MODEL_TYPES:
        raise ValueError(f"query must be bfloat16, float16 or float32, got {query.dtype}")
    if key_cache.dtype != value_cache.dtype or key_cache.dtype not in (query.dtype, _FLOAT8):
        raise ValueError(
            f"caches must be {query.dtype} like query, or {_FLOAT8}; "
            f"got {key_cache.dtype} and {value_cache.dtype}"
        )
