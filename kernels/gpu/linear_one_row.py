"""A linear layer of packed weights for one row of input, as in decoding for a single request.

Bound by memory alone, so without tensor cores: each thread loads 16 bytes of weights at once and
multiplies them with the input in registers, in float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..quantised import Int4Weight, Int8Weight
from .linear_parts import count_parts, sum_parts
from .variant import Variant

# Untuned: four chunks a thread, so that 64 bytes of weights are on their way in each.
_OUTPUTS, _CHUNKS, _WARPS = 8, 64, 4


@triton.jit(do_not_specialize=["steps_per_part"])
def _one_row_kernel(
    x,
    weight,
    scales,
    minimums,
    bias,
    output,
    num_outputs,
    num_chunks,
    steps_per_part,
    stride_weight,
    stride_scales,
    stride_part,
    BITS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """y[n] = sum over groups of scale[n, g] * (sum of q x in g) + minimum[n, g] * (sum of x in g).

    A chunk is 16 bytes of a weight's row, which one thread loads at once: a group of 4-bit numbers
    or half a group of 8-bit ones. The scale is applied once a chunk.
    """
    INPUTS: tl.constexpr = 128 // BITS  # in a chunk
    part = tl.program_id(1)
    outputs = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_output = outputs < num_outputs
    lanes = tl.arange(0, 16)
    weight_rows = weight + outputs.to(tl.int64) * stride_weight
    scale_rows = outputs.to(tl.int64) * stride_scales
    total = tl.zeros((OUTPUTS, CHUNKS), tl.float32)
    begin = part * steps_per_part
    end = tl.minimum(begin + steps_per_part, tl.cdiv(num_chunks, CHUNKS))
    for step in range(begin, end):
        chunks = step * CHUNKS + tl.arange(0, CHUNKS)
        is_chunk = chunks < num_chunks
        in_tile = is_output[:, None] & is_chunk[None, :]
        numbers = tl.load(
            weight_rows[:, None, None] + (chunks[:, None] * 16 + lanes[None, :])[None, :, :],
            mask=in_tile[:, :, None],
            other=0,
        )  # [outputs, chunks, 16]
        at = scale_rows[:, None] + (chunks * INPUTS // 32)[None, :]
        scale = tl.load(scales + at, mask=in_tile, other=0.0).to(tl.float32)
        if BITS == 4:
            minimum = tl.load(minimums + at, mask=in_tile, other=0.0).to(tl.float32)
        inputs = chunks[:, None] * INPUTS + lanes[None, :]
        low = tl.load(x + inputs, mask=is_chunk[:, None], other=0.0).to(tl.float32)
        if BITS == 4:
            high = tl.load(x + inputs + 16, mask=is_chunk[:, None], other=0.0).to(tl.float32)
            products = (numbers & 15).to(tl.float32) * low[None, :, :]
            products += (numbers >> 4).to(tl.float32) * high[None, :, :]
            total += tl.sum(low + high, axis=1)[None, :] * minimum
        else:
            products = numbers.to(tl.float32) * low[None, :, :]
        total += tl.sum(products, axis=2) * scale
    result = tl.sum(total, axis=1)
    if bias is not None:
        result += tl.load(bias + outputs, mask=is_output, other=0.0).to(tl.float32)
    tl.store(
        output + part * stride_part + outputs,
        result.to(output.dtype.element_ty),
        mask=is_output,
    )


def one_row_linear(
    x: Tensor, weight: Int4Weight | Int8Weight, bias: Tensor | None = None
) -> Tensor:
    """`quantised_linear` for x [1, inputs], which has been checked."""
    num_outputs, num_inputs = weight.shape
    assert x.shape == (1, num_inputs) and x.stride(1) == 1
    if isinstance(weight, Int4Weight):
        bits, packed, minimums = 4, weight.packed, weight.minimums
    else:
        bits, packed, minimums = 8, weight.values, None
    num_chunks = num_inputs * bits // 128
    num_tiles, num_steps = triton.cdiv(num_outputs, _OUTPUTS), triton.cdiv(num_chunks, _CHUNKS)
    num_parts = count_parts(num_tiles, num_steps)
    output = torch.empty((1, num_outputs), dtype=x.dtype, device=x.device)
    parts = output
    if num_parts > 1:
        parts = torch.empty((num_parts, 1, num_outputs), dtype=torch.float32, device=x.device)
    _one_row_kernel[(num_tiles, num_parts)](
        x,
        packed,
        weight.scales,
        minimums,
        bias if num_parts == 1 else None,
        parts,
        num_outputs,
        num_chunks,
        triton.cdiv(num_steps, num_parts),
        packed.stride(0),
        weight.scales.stride(0),
        num_outputs,
        BITS=bits,
        OUTPUTS=_OUTPUTS,
        CHUNKS=_CHUNKS,
        num_warps=_WARPS,
    )
    if num_parts > 1:
        sum_parts(parts, bias, output)
    return output


def variants() -> list[Variant]:
    """As the wrapper launches them."""
    integers = (
        "num_outputs",
        "num_chunks",
        "steps_per_part",
        "stride_weight",
        "stride_scales",
        "stride_part",
    )
    return [
        Variant(
            f"linear_int{bits}_one_row_bf16",
            _one_row_kernel,
            {
                "x": "*bf16",
                "weight": "*u8" if bits == 4 else "*i8",
                "scales": "*fp16",
                **({"minimums": "*fp16"} if bits == 4 else {}),
                "bias": "*bf16",
                "output": "*bf16",
                **dict.fromkeys(integers, "i32"),
            },
            {
                **({} if bits == 4 else {"minimums": None}),
                "BITS": bits,
                "OUTPUTS": _OUTPUTS,
                "CHUNKS": _CHUNKS,
            },
            num_warps=_WARPS,
            aligned=frozenset(integers) - {"steps_per_part"},
            may_spill=False,
        )
        for bits in (4, 8)
    ]
