"""Linear layers whose weights stay packed in 4 or 8 bits, and their reference in plain torch.

In groups of 32 along a row, as GGUF has them:

    w[n, k] = scales[n, k // 32] * q[n, k] + minimums[n, k // 32]    Int4Weight, q in 0..15
    w[n, k] = scales[n, k // 32] * q[n, k]                           Int8Weight, q in -128..127

and with one scale a row, the e4m3 format of "FP8 Formats for Deep Learning" (Micikevicius et al.,
2022), where the input is quantised too, each of its rows with a scale of its own:

    w[n, k] = scales[n] * q[n, k]                                    Fp8Weight, |q| <= 448
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

GROUP = 32  # weights that share a scale
E4M3_MAX = 448.0
# Rows of nothing but zeros need a scale too; no row of a model is this small.
LEAST_AMAX = 1e-12

GGUFKind = Literal["Q4_0", "Q4_1", "Q8_0"]
_BLOCK_BYTES: dict[GGUFKind, int] = {"Q4_0": 2 + 16, "Q4_1": 4 + 16, "Q8_0": 2 + 32}


@dataclass(frozen=True, slots=True, eq=False)
class Int4Weight:
    """Four bits a weight, with a scale and a minimum for each group.

    Byte i of a group's 16 holds its weight i in the low nibble and its weight i + 16 in the high
    one, as in GGUF: low and high nibbles of 16 bytes are then two runs of 16 neighbours, which a
    kernel multiplies with two runs of the input without shuffling.
    """

    packed: Tensor  # uint8 [outputs, inputs / 2]
    scales: Tensor  # float16 [outputs, inputs / 32]
    minimums: Tensor  # float16 [outputs, inputs / 32]

    def __post_init__(self) -> None:
        outputs, inputs = self.shape
        _check("packed", self.packed, torch.uint8, (outputs, inputs // 2))
        _check("scales", self.scales, torch.float16, (outputs, inputs // GROUP))
        _check("minimums", self.minimums, torch.float16, (outputs, inputs // GROUP))

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs) of the layer."""
        return self.packed.shape[0], self.packed.shape[1] * 2

    def to(self, device: torch.device) -> "Int4Weight":
        """The same weight on another device."""
        return Int4Weight(self.packed.to(device), self.scales.to(device), self.minimums.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Int8Weight:
    """Eight bits a weight, with a scale for each group."""

    values: Tensor  # int8 [outputs, inputs]
    scales: Tensor  # float16 [outputs, inputs / 32]

    def __post_init__(self) -> None:
        outputs, inputs = self.shape
        _check("values", self.values, torch.int8, (outputs, inputs))
        _check("scales", self.scales, torch.float16, (outputs, inputs // GROUP))

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs) of the layer."""
        return self.values.shape[0], self.values.shape[1]

    def to(self, device: torch.device) -> "Int8Weight":
        """The same weight on another device."""
        return Int8Weight(self.values.to(device), self.scales.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Fp8Weight:
    """One e4m3 number a weight, with a scale for each output."""

    values: Tensor  # float8_e4m3fn [outputs, inputs]
    scales: Tensor  # float32 [outputs]

    def __post_init__(self) -> None:
        _check("values", self.values, torch.float8_e4m3fn, self.shape)
        _check("scales", self.scales, torch.float32, self.shape[:1])

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs) of the layer."""
        return self.values.shape[0], self.values.shape[1]

    def to(self, device: torch.device) -> "Fp8Weight":
        """The same weight on another device."""
        return Fp8Weight(self.values.to(device), self.scales.to(device))


QuantisedWeight = Int4Weight | Int8Weight | Fp8Weight


def _check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(
            f"{name} must be contiguous {dtype} {list(shape)}, "
            f"got {tensor.dtype} {list(tensor.shape)} with strides {tensor.stride()}"
        )


def stack(weights: Sequence[QuantisedWeight]) -> QuantisedWeight:
    """Weights of one kind and as many inputs, their outputs one after the other."""
    kind = type(weights[0])
    parts = [[getattr(weight, field.name) for weight in weights] for field in fields(kind)]
    return kind(*(torch.cat(part) for part in parts))


def from_gguf(blocks: Tensor, kind: GGUFKind) -> Int4Weight | Int8Weight:
    """A GGUF tensor's bytes, uint8 [outputs, inputs / 32 * bytes of a block], without loss.

    Raises ValueError for another kind, shape or type. A block is its float16 scale, for Q4_1 its
    float16 minimum, and its numbers; a Q4_0 number q stands for q - 8.
    """
    if kind not in _BLOCK_BYTES:
        raise ValueError(f"kind must be one of {', '.join(_BLOCK_BYTES)}, got {kind!r}")
    size = _BLOCK_BYTES[kind]
    if blocks.dtype != torch.uint8 or blocks.dim() != 2 or blocks.shape[1] % size:
        raise ValueError(
            f"{kind} blocks must be uint8 [outputs, multiple of {size}], "
            f"got {blocks.dtype} {list(blocks.shape)}"
        )
    grouped = blocks.unflatten(1, (-1, size))  # [outputs, groups, bytes of a block]
    scales = _halves(grouped[:, :, :2])
    if kind == "Q8_0":
        return Int8Weight(_numbers(grouped[:, :, 2:]).view(torch.int8), scales)
    if kind == "Q4_1":
        return Int4Weight(_numbers(grouped[:, :, 4:]), scales, _halves(grouped[:, :, 2:4]))
    return Int4Weight(_numbers(grouped[:, :, 2:]), scales, scales * -8)


def _numbers(groups: Tensor) -> Tensor:
    """[outputs, groups, bytes] as [outputs, bytes of a row]; one group's would else be a view."""
    return groups.flatten(1).contiguous()


def _halves(pairs: Tensor) -> Tensor:
    """Bytes [outputs, groups, 2] as float16 [outputs, groups]."""
    return pairs.contiguous().view(torch.float16).squeeze(-1)


def quantise_int4(weight: Tensor) -> Int4Weight:
    """Each group's range divided into 15 steps; weight [outputs, inputs], inputs / 32 whole."""
    groups = weight.float().unflatten(1, (-1, GROUP))  # [outputs, groups, 32]
    low, high = groups.amin(2), groups.amax(2)
    scales = ((high - low) / 15).half()
    minimums = low.half()
    steps = torch.where(scales == 0, 1.0, scales.float())[:, :, None]
    numbers = ((groups - minimums.float()[:, :, None]) / steps).round().clamp(0, 15).byte()
    packed = numbers[:, :, : GROUP // 2] | numbers[:, :, GROUP // 2 :] << 4
    return Int4Weight(packed.flatten(1), scales, minimums)


def quantise_int8(weight: Tensor) -> Int8Weight:
    """Each group scaled to -127..127; weight [outputs, inputs], inputs / 32 whole."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    scales = (groups.abs().amax(2) / 127).half()
    steps = torch.where(scales == 0, 1.0, scales.float())[:, :, None]
    values = (groups / steps).round().clamp(-127, 127).to(torch.int8)
    return Int8Weight(values.flatten(1), scales)


def quantise_fp8(weight: Tensor) -> Fp8Weight:
    """Each output's row scaled to the range of e4m3; weight [outputs, inputs]."""
    return Fp8Weight(*quantise_rows(weight))


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, width] as float8_e4m3fn and one float32 scale a row, which is amax / 448."""
    amax = x.float().abs().amax(1).clamp(min=LEAST_AMAX)
    most = torch.full_like(amax, E4M3_MAX)  # of a number, torch would take the reciprocal first
    values = x.float() * (most / amax)[:, None]
    return values.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), amax / most


def dense(weight: QuantisedWeight) -> Tensor:
    """The weight as float32 [outputs, inputs]."""
    if isinstance(weight, Fp8Weight):
        return weight.values.float() * weight.scales[:, None]
    scales = weight.scales.float()[:, :, None]
    if isinstance(weight, Int8Weight):
        values: Tensor = weight.values.float().unflatten(1, (-1, GROUP)) * scales
        return values.flatten(1)
    packed = weight.packed.unflatten(1, (-1, GROUP // 2))  # [outputs, groups, 16]
    numbers = torch.cat((packed & 15, packed >> 4), dim=2).float()
    return (numbers * scales + weight.minimums.float()[:, :, None]).flatten(1)


def linear_reference(x: Tensor, weight: QuantisedWeight, bias: Tensor | None = None) -> Tensor:
    """x [rows, inputs] times the weight's transpose, plus bias [outputs], in x's type.

    Computed in float32, or in float64 for such an x. With an Fp8Weight x is quantised first.
    """
    precision = torch.promote_types(x.dtype, torch.float32)
    if isinstance(weight, Fp8Weight):
        values, scales = quantise_rows(x)
        wide = values.to(precision) * scales[:, None]
    else:
        wide = x.to(precision)
    result = wide @ dense(weight).to(precision).T
    if bias is not None:
        result += bias
    return result.to(x.dtype)
