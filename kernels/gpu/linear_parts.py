"""Sharing a sum over a layer's inputs between several programs, and adding up what they found.

Parts are added in order, not as they come, so that the same call always gives the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .variant import Variant

_BLOCK = 1024  # untuned: the sums of 128 threads, 8 each
# Parts are made until every multiprocessor has work: those of an H100, and this count everywhere,
# so that results do not depend on the GPU's size.
_MULTIPROCESSORS = 132
_MOST_PARTS = 8


def count_parts(num_tiles: int, num_steps: int) -> int:
    """In how many parts to compute tiles of a result that take so many steps each: a power of 2."""
    parts = 1
    while parts < _MOST_PARTS and num_tiles * parts < _MULTIPROCESSORS and parts * 2 <= num_steps:
        parts *= 2
    return parts


@triton.jit
def _sum_parts_kernel(
    parts, bias, output, num_values, num_outputs, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    """output = parts[0] + parts[1] + ... + bias, in this order."""
    values = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_value = values < num_values
    total = tl.zeros((BLOCK,), tl.float32)
    for part in tl.static_range(PARTS):
        total += tl.load(parts + part * num_values + values, mask=is_value, other=0.0)
    if bias is not None:
        total += tl.load(bias + values % num_outputs, mask=is_value, other=0.0).to(tl.float32)
    tl.store(output + values, total.to(output.dtype.element_ty), mask=is_value)


def sum_parts(parts: Tensor, bias: Tensor | None, output: Tensor) -> None:
    """Write the sum of float32 parts [parts, rows, outputs] plus bias [outputs] into output."""
    assert parts.dtype == torch.float32 and parts.is_contiguous() and output.is_contiguous()
    assert parts.shape[1:] == output.shape
    num_parts, _, num_outputs = parts.shape
    grid = (triton.cdiv(output.numel(), _BLOCK),)
    _sum_parts_kernel[grid](
        parts, bias, output, output.numel(), num_outputs, PARTS=num_parts, BLOCK=_BLOCK
    )


def variants() -> list[Variant]:
    """As the wrapper launches it."""
    return [
        Variant(
            f"linear_sum_{_MOST_PARTS}_parts_bf16",
            _sum_parts_kernel,
            {
                "parts": "*fp32",
                "bias": "*bf16",
                "output": "*bf16",
                "num_values": "i32",
                "num_outputs": "i32",
            },
            {"PARTS": _MOST_PARTS, "BLOCK": _BLOCK},
            aligned=frozenset({"num_values", "num_outputs"}),
            may_spill=False,
        )
    ]
