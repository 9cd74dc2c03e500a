"""RMSNorm, alone and fused with the residual addition before it (reference: `kernels/norm.py`).

    y = x / sqrt(mean(x^2) + eps) * weight

All arithmetic is in float32; one rounding on the way out. A row is read once and kept in registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .variant import TRITON_TYPES, Variant

MAX_HIDDEN = 16384

# (rows a program, warps) by the width that the hidden size is padded to. Untuned: chosen so that a
# thread holds 8 to 32 values, which is one to four 16-byte loads of bfloat16 in flight.
_TILES = {
    64: (16, 4),
    128: (8, 4),
    256: (4, 4),
    512: (4, 4),
    1024: (2, 4),
    2048: (1, 4),
    4096: (1, 8),
    8192: (1, 8),
    16384: (1, 16),
}


@triton.jit(do_not_specialize=["num_rows"])
def _rms_norm_kernel(
    x_pointer,
    residual_pointer,
    weight_pointer,
    rows_pointer,
    normed_pointer,
    sum_pointer,
    num_rows,
    x_stride,
    residual_stride,
    normed_stride,
    sum_stride,
    eps,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    ADDS: tl.constexpr,
    GATHERS: tl.constexpr,
):
    """Normalise rows [ROWS, HIDDEN] of x, or with ADDS of x + residual rounded to x's type.

    With GATHERS the source rows are `rows[i]`; results are always rows i.
    """
    targets = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    in_rows = targets < num_rows
    in_columns = columns < HIDDEN
    inside = in_rows[:, None] & in_columns[None, :]
    sources = targets
    if GATHERS:
        sources = tl.load(rows_pointer + targets, mask=in_rows, other=0).to(tl.int64)
    offsets = sources[:, None] * x_stride + columns[None, :]
    x = tl.load(x_pointer + offsets, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        offsets = sources[:, None] * residual_stride + columns[None, :]
        x += tl.load(residual_pointer + offsets, mask=inside, other=0.0).to(tl.float32)
        total = x.to(sum_pointer.dtype.element_ty)
        offsets = targets[:, None] * sum_stride + columns[None, :]
        tl.store(sum_pointer + offsets, total, mask=inside)
        x = total.to(tl.float32)  # the norm is of what the next layer will read
    weight = tl.load(weight_pointer + columns, mask=in_columns, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / HIDDEN + eps)
    normed = x * scale[:, None] * weight[None, :]
    offsets = targets[:, None] * normed_stride + columns[None, :]
    tl.store(normed_pointer + offsets, normed.to(normed_pointer.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension of x [rows, hidden], in x's type.

    Rows may lie apart (any row stride); `weight` [hidden] has x's type or float32.
    """
    _check(x, weight)
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch(x, None, weight, eps, None, normed, None)
    return normed


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(norm(x + residual), x + residual) for x and residual [rows, hidden] of one type.

    With `rows` [n] (int32 or int64, each a row of x) only those rows are computed and both results
    are [n, hidden]: the states of the tokens whose logits are wanted.
    """
    _check(x, weight)
    if residual.shape != x.shape or residual.dtype != x.dtype or residual.stride(1) != 1:
        raise ValueError(
            f"residual must be {list(x.shape)} {x.dtype} with dense rows, "
            f"got {list(residual.shape)} {residual.dtype}"
        )
    num_rows = x.shape[0]
    if rows is not None:
        if rows.dim() != 1 or rows.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"rows must be [n] int32 or int64, got {rows.dim()}-d {rows.dtype}")
        if not rows.is_contiguous():
            raise ValueError("rows must be contiguous")
        num_rows = rows.shape[0]
    normed = torch.empty((num_rows, x.shape[1]), dtype=x.dtype, device=x.device)
    total = torch.empty_like(normed)
    _launch(x, residual, weight, eps, rows, normed, total)
    return normed, total


def _check(x: Tensor, weight: Tensor) -> None:
    if x.dim() != 2 or not x.is_floating_point() or x.element_size() < 2:
        raise ValueError(f"x must be [rows, hidden] in floating point, got {x.dim()}-d {x.dtype}")
    if not 0 < x.shape[1] <= MAX_HIDDEN:
        raise ValueError(f"hidden size {x.shape[1]} is not in 1..{MAX_HIDDEN}")
    if x.stride(1) != 1:
        raise ValueError("the values of a row of x must lie side by side")
    if weight.shape != x.shape[1:] or weight.dtype not in (x.dtype, torch.float32):
        raise ValueError(f"weight must be [{x.shape[1]}] {x.dtype} or float32, got {weight.dtype}")
    if not weight.is_contiguous():
        raise ValueError("weight must be contiguous")


def _launch(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    rows: Tensor | None,
    normed: Tensor,
    total: Tensor | None,
) -> None:
    num_rows, hidden = normed.shape
    if num_rows == 0:
        return
    constants, warps = _tile(hidden)
    _rms_norm_kernel[(triton.cdiv(num_rows, constants["ROWS"]),)](
        x,
        residual,
        weight,
        rows,
        normed,
        total,
        num_rows,
        x.stride(0),
        0 if residual is None else residual.stride(0),
        normed.stride(0),
        0 if total is None else total.stride(0),
        eps,
        **constants,
        ADDS=residual is not None,
        GATHERS=rows is not None,
        num_warps=warps,
    )


def _tile(hidden: int) -> tuple[dict[str, int], int]:
    block = max(triton.next_power_of_2(hidden), min(_TILES))
    rows, warps = _TILES[block]
    return {"HIDDEN": hidden, "BLOCK": block, "ROWS": rows}, warps


def variants() -> list[Variant]:
    """What the models we serve compile."""
    cases = [
        ("norm_576_bf16", 576, "bfloat16", False, False),
        ("norm_4096_bf16", 4096, "bfloat16", False, False),
        ("norm_add_576_bf16", 576, "bfloat16", True, False),
        ("norm_add_4096_bf16", 4096, "bfloat16", True, False),
        ("norm_add_8192_bf16", 8192, "bfloat16", True, False),
        ("norm_add_16384_bf16", 16384, "bfloat16", True, False),
        ("norm_add_4096_fp32", 4096, "float32", True, False),
        ("norm_add_rows_4096_bf16", 4096, "bfloat16", True, True),
    ]
    return [_variant(*case) for case in cases]


def _variant(name: str, hidden: int, dtype: str, adds: bool, gathers: bool) -> Variant:
    kind = "*" + TRITON_TYPES[dtype]
    constants, warps = _tile(hidden)
    signature = {"x_pointer": kind, "weight_pointer": kind, "normed_pointer": kind}
    absent: dict[str, None] = {}
    for argument, present in (("residual_pointer", adds), ("sum_pointer", adds)):
        if present:
            signature[argument] = kind
        else:
            absent[argument] = None
    if gathers:
        signature["rows_pointer"] = "*i64"
    else:
        absent["rows_pointer"] = None
    strides = {"x_stride", "residual_stride", "normed_stride", "sum_stride"}
    signature |= dict.fromkeys(strides, "i32") | {"num_rows": "i32", "eps": "fp32"}
    return Variant(
        name,
        _rms_norm_kernel,
        signature,
        {**constants, "ADDS": adds, "GATHERS": gathers, **absent},
        num_warps=warps,
        aligned=frozenset(strides),
        may_spill=False,
    )
