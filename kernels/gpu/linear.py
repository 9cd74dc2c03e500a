"""Linear layers: packed weights streamed and unpacked in registers, e4m3 products, and a dense one
whose rows do not depend on each other.

The reference of `quantised_linear` is `linear_reference` in `kernels/quantised.py`, where the
formats are described; that of `dense_linear_deterministic` is torch's own `linear`.

Tiles of the result are computed transposed: the weight, of which there is much, is the left operand
of each tensor-core instruction, which may come from registers, where it was unpacked; the input is
the right one, which is read from shared memory and may be as narrow as 16 rows.

One row is multiplied without tensor cores (`linear_one_row.py`). Where a few rows leave too few
tiles to fill a GPU, several programs share a tile, each a part of the inputs (`linear_parts.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..quantised import GROUP, Fp8Weight, Int8Weight, QuantisedWeight
from .linear_one_row import one_row_linear
from .linear_parts import count_parts, sum_parts
from .quantise_rows import quantise_rows
from .variant import Variant


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program computes, and how; inputs are what it takes at a time."""

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int


# Untuned: chosen by what fits (registers without spills, shared memory for the stages), so that a
# row of a weight's tile is 64 to 256 bytes long. No GPU has measured them yet.
_TILES = {
    ("int4", "few"): Tile(16, 64, 256, 4, 4),
    ("int4", "some"): Tile(64, 64, 128, 4, 4),
    ("int4", "many"): Tile(128, 128, 128, 8, 3),
    ("int8", "few"): Tile(16, 64, 128, 4, 4),
    ("int8", "some"): Tile(64, 64, 128, 4, 3),
    ("int8", "many"): Tile(128, 128, 128, 8, 3),
    ("fp8", "few"): Tile(16, 64, 256, 4, 4),  # e4m3 inputs as well
    ("fp8", "some"): Tile(64, 64, 128, 4, 4),
    ("fp8", "many"): Tile(128, 128, 128, 8, 3),
    ("fp8 weight", "few"): Tile(16, 64, 128, 4, 4),  # e4m3 weights alone
    ("fp8 weight", "some"): Tile(64, 64, 128, 4, 3),
    ("fp8 weight", "many"): Tile(128, 128, 128, 8, 3),
    ("dense", "some"): Tile(64, 64, 64, 4, 4),
}
# float32 has no tensor cores that keep its precision: one tile for every kind, for tests of
# exactness more than for speed.
_FLOAT32_TILE = Tile(32, 64, 32, 4, 2)
_MOST_IMPRECISE = 128  # inputs whose e4m3 products tensor cores may add up by themselves
_FEW_ROWS, _SOME_ROWS = 16, 64

_OPERANDS = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float8_e4m3fn: tl.float8e4nv,
}
_INTEGERS = (
    "num_rows",
    "num_outputs",
    "num_inputs",
    "num_groups",
    "steps_per_part",
    "stride_x",
    "stride_weight",
    "stride_scales",
    "stride_output",
    "stride_part",
)


@triton.jit
def _spread(groups, WIDTH: tl.constexpr):
    """Each value of [rows, groups] WIDTH times along its row."""
    repeated = tl.broadcast_to(groups[:, :, None], (groups.shape[0], groups.shape[1], WIDTH))
    return tl.reshape(repeated, (groups.shape[0], groups.shape[1] * WIDTH))


@triton.jit
def _from_e4m3(bits):
    """e4m3 numbers, in uint8, as float32, for hardware that does not know the format.

    In the place of a float16's, their exponent and mantissa make that number divided by 2^8, also
    where it is subnormal.
    """
    wide = bits.to(tl.uint16)
    halves = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    return halves.to(tl.float16, bitcast=True).to(tl.float32) * 256.0


@triton.jit(do_not_specialize=["num_rows", "steps_per_part"])
def _tile_kernel(
    x,
    x_scales,
    weight,
    scales,
    minimums,
    bias,
    output,
    num_rows,
    num_outputs,
    num_inputs,
    num_groups,
    steps_per_part,
    stride_x,
    stride_weight,
    stride_scales,
    stride_output,
    stride_part,
    KIND: tl.constexpr,
    OPERAND: tl.constexpr,
    MOST_IMPRECISE: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
):
    """y[m, n] = sum over k of x[m, k] w[n, k] + bias[n], with w unpacked to x's type tile by tile.

    The scales of a row of x and of an output, where the format has them, multiply the sum.
    OPERAND is the type that products are taken in: x's, or float32 for Triton's interpreter, which
    cannot multiply bfloat16. The tensor cores add up products of e4m3 with fewer bits than float32
    has, so after MOST_IMPRECISE inputs their sum is added to one in float32.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    outputs = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    part = tl.program_id(2)
    is_row, is_output = rows < num_rows, outputs < num_outputs
    x_rows = x + rows.to(tl.int64) * stride_x
    weight_rows = weight + outputs.to(tl.int64) * stride_weight
    total = tl.zeros((OUTPUTS, ROWS), tl.float32)
    begin = part * steps_per_part
    end = tl.minimum(begin + steps_per_part, tl.cdiv(num_inputs, INPUTS))
    for step in range(begin, end):
        if KIND == "int4":
            lanes = tl.arange(0, INPUTS // 2)  # bytes
            at_weight = step * (INPUTS // 2) + lanes
            inputs = step * INPUTS + lanes // 16 * 32 + lanes % 16  # those of their low nibbles
        else:
            inputs = step * INPUTS + tl.arange(0, INPUTS)
            at_weight = inputs
        is_input = inputs < num_inputs
        in_weight = is_output[:, None] & is_input[None, :]
        numbers = tl.load(weight_rows[:, None] + at_weight[None, :], mask=in_weight, other=0.0)
        in_x = is_input[:, None] & is_row[None, :]
        at_x = x_rows[None, :] + inputs[:, None]
        x_tile = tl.load(at_x, mask=in_x, other=0.0).to(OPERAND)
        if KIND == "int4" or KIND == "int8":
            groups = step * (INPUTS // 32) + tl.arange(0, INPUTS // 32)
            at = outputs.to(tl.int64)[:, None] * stride_scales + groups[None, :]
            in_groups = is_output[:, None] & (groups < num_groups)[None, :]
            scale = tl.load(scales + at, mask=in_groups, other=0.0).to(tl.float32)
        if KIND == "int4":
            minimum = tl.load(minimums + at, mask=in_groups, other=0.0).to(tl.float32)
            scale, minimum = _spread(scale, 16), _spread(minimum, 16)
            high = (numbers >> 4).to(tl.float32) * scale + minimum
            high = high.to(x.dtype.element_ty).to(OPERAND)
            x_high = tl.load(at_x + 16, mask=in_x, other=0.0).to(OPERAND)
            total = tl.dot(high, x_high, total, input_precision="ieee")
            unpacked = (numbers & 15).to(tl.float32) * scale + minimum
        elif KIND == "int8":
            unpacked = numbers.to(tl.float32) * _spread(scale, 32)
        elif KIND == "fp8 weight":
            unpacked = _from_e4m3(numbers)
        else:
            unpacked = numbers
        unpacked = unpacked.to(x.dtype.element_ty).to(OPERAND)
        total = tl.dot(
            unpacked,
            x_tile,
            total,
            input_precision="ieee",
            max_num_imprecise_acc=MOST_IMPRECISE,
        )
    if KIND == "fp8" or KIND == "fp8 weight":
        total *= tl.load(scales + outputs, mask=is_output, other=0.0)[:, None]
    if KIND == "fp8":
        total *= tl.load(x_scales + rows, mask=is_row, other=0.0)[None, :]
    if bias is not None:
        total += tl.load(bias + outputs, mask=is_output, other=0.0).to(tl.float32)[:, None]
    tl.store(
        output + part * stride_part + rows.to(tl.int64)[None, :] * stride_output + outputs[:, None],
        total.to(output.dtype.element_ty),
        mask=is_output[:, None] & is_row[None, :],
    )


def quantised_linear(
    x: Tensor, weight: QuantisedWeight, bias: Tensor | None = None, *, deterministic: bool = False
) -> Tensor:
    """x [rows, inputs] times the weight's transpose, plus bias [outputs], in x's type.

    x is float32, bfloat16 or float16, its rows contiguous. With `deterministic` a row's result does
    not depend on how many others there are. Raises ValueError for shapes and types that do not fit.
    """
    if isinstance(weight, Fp8Weight):
        multiplies_e4m3 = not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 9)
        return fp8_linear(x, weight, bias, quantise_x=multiplies_e4m3, deterministic=deterministic)
    _check(x, weight.shape, bias)
    if len(x) == 1 and not deterministic:
        return one_row_linear(x, weight, bias)
    if isinstance(weight, Int8Weight):
        packed = _Packed("int8", weight.values, weight.scales)
    else:
        packed = _Packed("int4", weight.packed, weight.scales, weight.minimums)
    return _multiply(x, packed, bias, x.dtype, deterministic)


def fp8_linear(
    x: Tensor,
    weight: Fp8Weight,
    bias: Tensor | None = None,
    *,
    quantise_x: bool,
    deterministic: bool = False,
) -> Tensor:
    """`quantised_linear` for e4m3 weights, times an x that is quantised to e4m3 first, or not.

    Tensor cores multiply e4m3 from compute capability 8.9 on; unquantised, x is multiplied with
    weights that are unpacked to its own type.
    """
    _check(x, weight.shape, bias)
    if quantise_x:
        values, x_scales = quantise_rows(x)
        packed = _Packed("fp8", weight.values, weight.scales, x_scales=x_scales)
        return _multiply(values, packed, bias, x.dtype, deterministic)
    packed = _Packed("fp8 weight", weight.values.view(torch.uint8), weight.scales)
    return _multiply(x, packed, bias, x.dtype, deterministic)


def dense_linear_deterministic(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch's `linear` for x [rows, inputs], whose result for a row does not depend on the others.

    x and weight [outputs, inputs] are of one type: float32 (multiplied as such), bfloat16 or
    float16. Raises ValueError for shapes and types that do not fit.
    """
    if weight.dim() != 2 or weight.dtype != x.dtype or weight.stride(1) != 1:
        raise ValueError(
            f"weight must be {x.dtype} [outputs, inputs] with contiguous rows, got {weight.dtype} "
            f"{list(weight.shape)} with strides {weight.stride()}"
        )
    _check(x, (weight.shape[0], weight.shape[1]), bias)
    return _multiply(x, _Packed("dense", weight), bias, x.dtype, deterministic=True)


def _check(x: Tensor, shape: tuple[int, int], bias: Tensor | None) -> None:
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"x must be float32, bfloat16 or float16, got {x.dtype}")
    if x.dim() != 2 or x.shape[1] != shape[1] or x.stride(1) != 1:
        raise ValueError(
            f"x must be [rows, {shape[1]}] with contiguous rows, got {list(x.shape)} with strides "
            f"{x.stride()}"
        )
    if bias is not None and (bias.shape != (shape[0],) or not bias.is_contiguous()):
        raise ValueError(f"bias must be contiguous [{shape[0]}], got {list(bias.shape)}")


@dataclass(frozen=True, slots=True)
class _Packed:
    """A weight as `_tile_kernel` takes it, with what its kind of weight has."""

    kind: str
    weight: Tensor
    scales: Tensor | None = None
    minimums: Tensor | None = None
    x_scales: Tensor | None = None


def _multiply(
    x: Tensor, packed: _Packed, bias: Tensor | None, dtype: torch.dtype, deterministic: bool
) -> Tensor:
    num_rows, num_inputs = x.shape
    num_outputs = packed.weight.shape[0]
    output = torch.empty((num_rows, num_outputs), dtype=dtype, device=x.device)
    if num_rows == 0:
        return output
    size = "some"  # the one for every number of rows, if results must not depend on it
    if not deterministic:
        size = "few" if num_rows <= _FEW_ROWS else "some" if num_rows <= _SOME_ROWS else "many"
    tile = _FLOAT32_TILE if x.dtype == torch.float32 else _TILES[packed.kind, size]
    grid = (triton.cdiv(num_rows, tile.rows), triton.cdiv(num_outputs, tile.outputs))
    num_steps = triton.cdiv(num_inputs, tile.inputs)
    num_parts = 1
    if not deterministic and size != "many":
        num_parts = count_parts(grid[0] * grid[1], num_steps)
    parts = output
    if num_parts > 1:
        shape = (num_parts, num_rows, num_outputs)
        parts = torch.empty(shape, dtype=torch.float32, device=x.device)
    interpreted = triton.knobs.runtime.interpret and x.dtype == torch.bfloat16
    _tile_kernel[(*grid, num_parts)](
        x,
        packed.x_scales,
        packed.weight,
        packed.scales,
        packed.minimums,
        bias if num_parts == 1 else None,
        parts,
        num_rows,
        num_outputs,
        num_inputs,
        num_inputs // GROUP,
        triton.cdiv(num_steps, num_parts),
        x.stride(0),
        packed.weight.stride(0),
        0 if packed.scales is None else packed.scales.stride(0),
        output.stride(0),
        output.numel(),
        **_constants(packed.kind, tile, tl.float32 if interpreted else _OPERANDS[x.dtype]),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    if num_parts > 1:
        sum_parts(parts, bias, output)
    return output


def _constants(kind: str, tile: Tile, operand: tl.dtype) -> dict[str, Any]:
    return {
        "KIND": kind,
        "OPERAND": operand,
        "MOST_IMPRECISE": _MOST_IMPRECISE if kind == "fp8" else 0,
        "ROWS": tile.rows,
        "OUTPUTS": tile.outputs,
        "INPUTS": tile.inputs,
    }


_POINTERS = {  # Triton types of what depends on the kind of weight
    "int4": {"weight": "*u8", "scales": "*fp16", "minimums": "*fp16"},
    "int8": {"weight": "*i8", "scales": "*fp16"},
    "fp8": {"x": "*fp8e4nv", "x_scales": "*fp32", "weight": "*fp8e4nv", "scales": "*fp32"},
    "fp8 weight": {"weight": "*u8", "scales": "*fp32"},
    "dense": {},
}
_ARCHS = {"fp8": frozenset({90}), "fp8 weight": frozenset({80})}


def variants() -> list[Variant]:
    """The tiles for bfloat16, as the wrappers launch them; those for few rows write parts."""
    chosen = [(kind, size) for kind, size in _TILES if size != "some" or kind in ("int4", "dense")]
    return [
        *(_variant(kind, size, "bf16", _TILES[kind, size]) for kind, size in chosen),
        _variant("dense", "some", "fp32", _FLOAT32_TILE),
    ]


def _variant(kind: str, size: str, dtype: str, tile: Tile) -> Variant:
    operand = {"bf16": tl.bfloat16, "fp32": tl.float32}[dtype]
    in_parts = size == "few"
    pointers = {"x": f"*{dtype}", "weight": f"*{dtype}", "output": f"*{dtype}"} | _POINTERS[kind]
    pointers |= {"output": "*fp32"} if in_parts else {"bias": f"*{dtype}"}
    absent = {"x_scales", "scales", "minimums", "bias"} - pointers.keys()
    return Variant(
        f"linear_{kind.replace(' ', '_')}_{size}_{dtype}",
        _tile_kernel,
        pointers | dict.fromkeys(_INTEGERS, "i32"),
        _constants(kind, tile, tl.float8e4nv if kind == "fp8" else operand) | dict.fromkeys(absent),
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=frozenset(_INTEGERS) - {"num_rows", "steps_per_part"},
        may_spill=not in_parts,
        archs=_ARCHS.get(kind, frozenset({80, 90})),
    )
