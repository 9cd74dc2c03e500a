"""Quantising the rows of a layer's input to e4m3, each with a scale of its own.

The reference is `quantise_rows` in `kernels/quantised.py`, and results are the same to the bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..quantised import LEAST_AMAX
from .variant import Variant

_BLOCK = 2048  # untuned: 16 numbers a thread; a row is read twice, the second time from the cache


@triton.jit
def _quantise_rows_kernel(
    x, values, scales, width, stride_x, stride_values, LEAST: tl.constexpr, BLOCK: tl.constexpr
):
    """values[m] = x[m] * 448 / amax in e4m3, scales[m] = amax / 448, with amax = max |x[m]|."""
    row = tl.program_id(0).to(tl.int64)
    peaks = tl.full((BLOCK,), LEAST, tl.float32)
    for first in range(0, width, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        part = tl.load(x + row * stride_x + columns, mask=columns < width, other=0.0)
        peaks = tl.maximum(peaks, tl.abs(part.to(tl.float32)))
    amax = tl.max(peaks, axis=0)
    tl.store(scales + row, tl.div_rn(amax, 448.0))
    factor = tl.div_rn(448.0, amax)
    for first in range(0, width, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        is_column = columns < width
        part = tl.load(x + row * stride_x + columns, mask=is_column, other=0.0)
        scaled = tl.minimum(tl.maximum(part.to(tl.float32) * factor, -448.0), 448.0)
        # To the nearest number of e4m3, by adding and taking away 1.5 * 2^20 times the power of two
        # of a number's exponent (2^-6 at least): what is left of float32's 24 bits are e4m3's 4.
        # The cast is then exact, whatever its rounding (the interpreter's has none).
        power = tl.maximum(scaled.to(tl.int32, bitcast=True) & 0x7F800000, (127 - 6) << 23)
        shift = (power + (20 << 23)).to(tl.float32, bitcast=True) * 1.5
        rounded = (scaled + shift) - shift
        tl.store(
            values + row * stride_values + columns,
            rounded.to(values.dtype.element_ty),
            mask=is_column,
        )


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, width] as float8_e4m3fn and one float32 scale a row, which is amax / 448.

    Needs compute capability 8.9.
    """
    assert x.dim() == 2 and x.is_floating_point() and x.stride(1) == 1
    num_rows, width = x.shape
    values = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(num_rows, dtype=torch.float32, device=x.device)
    if num_rows > 0:
        _quantise_rows_kernel[(num_rows,)](
            x, values, scales, width, x.stride(0), width, LEAST=LEAST_AMAX, BLOCK=_BLOCK
        )
    return values, scales


def variants() -> list[Variant]:
    """As the wrapper launches it."""
    integers = {"width": "i32", "stride_x": "i32", "stride_values": "i32"}
    return [
        Variant(
            "linear_quantise_rows_bf16",
            _quantise_rows_kernel,
            {"x": "*bf16", "values": "*fp8e4nv", "scales": "*fp32", **integers},
            {"LEAST": LEAST_AMAX, "BLOCK": _BLOCK},
            aligned=frozenset(integers),
            may_spill=False,
            archs=frozenset({90}),
        )
    ]
