"""RMSNorm ("Root Mean Square Layer Normalization", Zhang and Sennrich, 2019)."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension; computed in float32, given in x's type."""
    return F.rms_norm(x, weight.shape, weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(norm(x + residual), x + residual): the entry of a sub-layer, for a kernel to fuse."""
    total = x + residual
    return rms_norm(total, weight, eps), total
