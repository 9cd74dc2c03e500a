"""A decoder's operations whose results for a token depend on its sequence alone, bit for bit.

Linear layers have one tile shape and never split their sums, whatever the batch; all other kernels
work row by row already, and attention follows the plan (`AttentionSchedule.split_tokens`).
"""

from torch import Tensor

from ..operations import LinearWeight
from .linear import dense_linear_deterministic, quantised_linear
from .operations import (
    add_rms_norm,
    attend,
    look_up_angles,
    rms_norm,
    rotate_and_write,
    silu_mul,
)

__all__ = [
    "add_rms_norm",
    "attend",
    "linear",
    "look_up_angles",
    "rms_norm",
    "rotate_and_write",
    "silu_mul",
]


def linear(x: Tensor, weight: LinearWeight, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias."""
    if isinstance(weight, Tensor):
        return dense_linear_deterministic(x, weight, bias)
    return quantised_linear(x, weight, bias, deterministic=True)
