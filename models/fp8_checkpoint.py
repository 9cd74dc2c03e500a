"""Checkpoints whose linear weights are 8-bit floats, in the format of compressed-tensors.

There a weight is e4m3 numbers and a `weight_scale` beside it, one for the whole or one for each
output; activations are quantised when they come ("FP8-dynamic").
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..kernels import LinearWeight
from ..kernels.quantised import Fp8Weight, dense
from .errors import ModelFormatError

_SCALE = "_scale"


def join_scales(
    tensors: Iterable[tuple[str, Tensor]], keep_packed: bool
) -> Iterator[tuple[str, LinearWeight]]:
    """Put 8-bit weights together with their scales; without `keep_packed`, as float32.

    Raises ModelFormatError if one of the two is missing or of a wrong shape.
    """
    waiting: dict[str, Tensor] = {}
    for name, tensor in tensors:
        is_scale = name.endswith(".weight" + _SCALE)
        if not is_scale and tensor.dtype != torch.float8_e4m3fn:
            yield name, tensor
            continue
        weight_name = name.removesuffix(_SCALE)
        other = waiting.pop(weight_name, None)
        if other is None:
            waiting[weight_name] = tensor
            continue
        weight, scale = (other, tensor) if is_scale else (tensor, other)
        joined = _join(weight_name, weight, scale)
        yield weight_name, joined if keep_packed else dense(joined)
    if waiting:
        name = next(iter(waiting))
        raise ModelFormatError(f"of the 8-bit tensor {name!r}, the weight or its scale is missing")


def _join(name: str, weight: Tensor, scale: Tensor) -> Fp8Weight:
    if weight.dim() != 2 or scale.numel() not in (1, weight.shape[0]):
        raise ModelFormatError(
            f"the scale of {name!r} has shape {tuple(scale.shape)}, the weight "
            f"{tuple(weight.shape)}"
        )
    return Fp8Weight(weight.contiguous(), scale.float().flatten().expand(len(weight)).contiguous())
