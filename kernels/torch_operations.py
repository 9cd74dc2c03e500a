"""A decoder's operations in plain torch, on any device: the reference of the others."""

import torch.nn.functional as F
from torch import Tensor

from .activation import silu_mul
from .kv_write import write_kv
from .norm import add_rms_norm, rms_norm
from .operations import Angles, LinearWeight
from .paged_attention import AttentionPlan, paged_attention
from .quantised import linear_reference
from .rotary import rotate

__all__ = [
    "add_rms_norm",
    "attend",
    "linear",
    "look_up_angles",
    "rms_norm",
    "rotate_and_write",
    "silu_mul",
]


def look_up_angles(cos: Tensor, sin: Tensor, positions: Tensor) -> Angles:
    """The angles at these positions, once for all layers."""
    return Angles(cos[positions].repeat(1, 2)[:, None], sin[positions].repeat(1, 2)[:, None], None)


def linear(x: Tensor, weight: LinearWeight, bias: Tensor | None) -> Tensor:
    """x [tokens, inputs] @ weight [outputs, inputs].T + bias [outputs]."""
    if isinstance(weight, Tensor):
        return F.linear(x, weight, bias)
    return linear_reference(x, weight, bias)


def rotate_and_write(
    qkv: Tensor,
    angles: Angles,
    slots: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    *,
    num_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
) -> Tensor:
    """Split qkv [tokens, (heads + 2 * kv_heads) * head_dim], norm and rotate its heads, store.

    q_norm and k_norm [head_dim], if given, norm each head before it is rotated (Qwen3). Returns the
    query [tokens, heads, head_dim].
    """
    kv_heads, _, width = key_cache.shape[1:]
    heads = qkv.unflatten(-1, (num_heads + 2 * kv_heads, width))
    query, key = heads[:, :num_heads], heads[:, num_heads : num_heads + kv_heads]
    if q_norm is not None and k_norm is not None:
        query, key = rms_norm(query, q_norm, eps), rms_norm(key, k_norm, eps)
    rotated = rotate(key, angles.cos, angles.sin)
    write_kv(rotated, heads[:, num_heads + kv_heads :], key_cache, value_cache, slots)
    return rotate(query, angles.cos, angles.sin)


def attend(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    window: int,
) -> Tensor:
    """See `paged_attention`."""
    return paged_attention(query, key_cache, value_cache, plan, scale, window)
