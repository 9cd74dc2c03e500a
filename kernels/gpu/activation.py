"""The gated activation of the MLP: silu(gate) * up (reference: `kernels/activation.py`).

    silu(g) = g / (1 + exp(-g))

in float32, rounded to the model's type, then multiplied by `up` and rounded again, as the two
operations of the reference do.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .variant import TRITON_TYPES, Variant

# (columns a program, warps) by bytes of a value. Untuned: a thread loads 16 bytes of gate and of up
# twice over, enough to hide most of the latency without leaving short rows to few programs.
_TILES = {2: (2048, 4), 4: (1024, 4)}


@triton.jit
def _silu_mul_kernel(
    gate_up_pointer,
    result_pointer,
    width,
    gate_up_stride,
    result_stride,
    BLOCK: tl.constexpr,
):
    """One row's BLOCK columns of silu(gate) * up; gate is the row's first half, up its second."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    source = gate_up_pointer + row * gate_up_stride + columns
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    kind = result_pointer.dtype.element_ty
    active = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
    tl.store(result_pointer + row * result_stride + columns, (active * up).to(kind), mask=inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up [tokens, width] for gate_up [tokens, 2 * width]: gate and up side by side.

    Rows may lie apart (any row stride).
    """
    if (
        gate_up.dim() != 2
        or not gate_up.is_floating_point()
        or gate_up.element_size() not in _TILES
    ):
        raise ValueError(
            "gate_up must be [tokens, 2 * width] in bfloat16, float16 or float32, "
            f"got {gate_up.dim()}-d {gate_up.dtype}"
        )
    if gate_up.shape[1] % 2 or gate_up.stride(1) != 1:
        raise ValueError("gate_up must have an even number of columns that lie side by side")
    tokens, width = gate_up.shape[0], gate_up.shape[1] // 2
    result = torch.empty((tokens, width), dtype=gate_up.dtype, device=gate_up.device)
    if result.numel() == 0:
        return result
    block, warps = _TILES[gate_up.element_size()]
    _silu_mul_kernel[(tokens, triton.cdiv(width, block))](
        gate_up,
        result,
        width,
        gate_up.stride(0),
        result.stride(0),
        BLOCK=block,
        num_warps=warps,
    )
    return result


def variants() -> list[Variant]:
    """One a value size: nothing else is fixed at compile time."""
    return [_variant("silu_mul_bf16", "bfloat16", 2), _variant("silu_mul_fp32", "float32", 4)]


def _variant(name: str, dtype: str, value_bytes: int) -> Variant:
    kind = "*" + TRITON_TYPES[dtype]
    sizes = ("width", "gate_up_stride", "result_stride")
    block, warps = _TILES[value_bytes]
    return Variant(
        name,
        _silu_mul_kernel,
        {"gate_up_pointer": kind, "result_pointer": kind, **dict.fromkeys(sizes, "i32")},
        {"BLOCK": block},
        num_warps=warps,
        aligned=frozenset(sizes),
        may_spill=False,
    )
