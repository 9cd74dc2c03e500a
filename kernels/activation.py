"""The gated activation of the MLP ("GLU Variants Improve Transformer", Shazeer, 2020)."""

import torch.nn.functional as F
from torch import Tensor


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for [tokens, 2 * width] that holds gate and up side by side."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
