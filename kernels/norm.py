"""RMSNorm ("Root Mean Square Layer Normalization", Zhang and Sennrich, 2019)."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension; computed in float32, given in x's type."""
    return F.rms_norm(x, weight.shape, weight, eps)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(norm(x + residual), x + residual): the entry of a sub-layer, for a kernel to fuse.

    With `rows` [n], int64, of those rows only: results are [n, hidden].
    """
    total = x + residual if rows is None else x[rows] + residual[rows]
    return rms_norm(total, weight, eps), total
