"""What a decoder asks of a device. Two modules answer: `torch_operations` and `gpu.operations`."""

import logging
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .quantised import QuantisedWeight

logger = logging.getLogger(__name__)

LinearWeight = Tensor | QuantisedWeight
"""Weights [outputs, inputs] of a linear layer, dense or as packed integers."""


class Angles(NamedTuple):
    """Rotary angles of a step's tokens.

    Tables [max_positions, head_dim / 2] with the `positions` [tokens] to look up, or the values
    looked up already, [tokens, 1, head_dim] with both halves equal, and no positions.
    """

    cos: Tensor
    sin: Tensor
    positions: Tensor | None


class Operations(Protocol):
    """The operations of a decoder, each documented where it is implemented.

    `plan` is what the same device's runner made for the step.
    """

    def look_up_angles(self, cos: Tensor, sin: Tensor, positions: Tensor) -> Angles:
        """Prepare the angles of a step for all its layers."""

    def linear(self, x: Tensor, weight: LinearWeight, bias: Tensor | None) -> Tensor:
        """x @ weight.T + bias."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / rms(x) * weight."""

    def add_rms_norm(
        self,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        eps: float,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual), of the given rows only if there are some."""

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up."""

    def rotate_and_write(
        self,
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
        """Store keys and values in their slots; give the rotated query [tokens, heads, width]."""

    def attend(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: Any,
        *,
        scale: float,
        window: int,
    ) -> Tensor:
        """Attention of the query over the blocks that `plan` names."""


def choose_operations(device: torch.device, deterministic: bool = False) -> Operations:
    """Triton's kernels on an NVIDIA GPU where Triton is installed, else plain torch.

    `deterministic` chooses those kernels whose results do not depend on the rest of the batch.
    """
    if device.type == "cuda":
        try:
            from .gpu import deterministic_operations, operations
        except ImportError:
            logger.warning("Triton is not installed: the GPU runs plain torch, slowly")
        else:
            return deterministic_operations if deterministic else operations
    from . import torch_operations

    return torch_operations
