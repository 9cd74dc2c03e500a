"""A decoder's operations by Triton's kernels (see `kernels.operations.Operations`)."""

import torch.nn.functional as F
from torch import Tensor

from ..operations import Angles, LinearWeight
from . import attention, rotary
from .activation import silu_mul
from .attention import PagedAttentionPlan
from .linear import quantised_linear
from .norm import add_rms_norm, rms_norm

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
    """The tables themselves: each layer's kernel looks its angles up."""
    return Angles(cos, sin, positions)


def linear(x: Tensor, weight: LinearWeight, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias: dense by cuBLAS, packed by `linear.quantised_linear`."""
    if isinstance(weight, Tensor):
        return F.linear(x, weight, bias)
    return quantised_linear(x, weight, bias)


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
    """See `rotary.rotate_and_write`."""
    assert angles.positions is not None
    return rotary.rotate_and_write(
        qkv,
        angles.positions,
        slots,
        angles.cos,
        angles.sin,
        key_cache,
        value_cache,
        num_heads=num_heads,
        q_norm=q_norm,
        k_norm=k_norm,
        eps=eps,
    )


def attend(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    plan: PagedAttentionPlan,
    *,
    scale: float,
    window: int,
) -> Tensor:
    """See `attention.attend`."""
    return attention.attend(query, key_cache, value_cache, plan, scale=scale, window=window)
