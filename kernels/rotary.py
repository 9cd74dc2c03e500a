"""Rotary position embedding ("RoFormer", Su et al., 2021), in the half-split form of Llama."""

import torch
from torch import Tensor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each head's vector by its token's angles.

    x [tokens, heads, head_dim]; cos and sin [tokens, 1, head_dim], both halves of which are equal,
    in the type of x. Dimension i is paired with i + head_dim / 2.
    """
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin
