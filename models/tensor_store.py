"""A model's tensors while they wait to be taken by its layers."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..kernels import LinearWeight
from ..kernels.quantised import dense, stack
from .errors import ModelFormatError


class TensorStore:
    """Tensors by name, in `dtype` on `device`; packed weights stay packed. All must be taken.

    Every method but `discard` raises ModelFormatError: for a tensor that is missing or of a wrong
    shape, or for one that nobody took.
    """

    def __init__(
        self,
        tensors: Iterable[tuple[str, LinearWeight]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._dtype = dtype
        self._tensors: dict[str, LinearWeight] = {
            name: tensor.to(device, dtype) if isinstance(tensor, Tensor) else tensor.to(device)
            for name, tensor in tensors
            if not name.endswith("rotary_emb.inv_freq")
        }

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A dense tensor."""
        return as_dense(self.take_linear(name, shape), self._dtype)

    def take_linear(self, name: str, shape: tuple[int, ...]) -> LinearWeight:
        """Weights of a linear layer [outputs, inputs], dense or packed."""
        tensor = self._tensors.pop(name, None)
        if tensor is None:
            raise ModelFormatError(f"the tensor {name!r} is missing")
        if tuple(tensor.shape) != shape:
            raise ModelFormatError(
                f"the tensor {name!r} has shape {tuple(tensor.shape)}, expected {shape}"
            )
        return tensor

    def fuse(self, names: Sequence[str], kind: str, shapes: Iterable[tuple[int, ...]]) -> Tensor:
        """Dense tensors `name.kind`, stacked by rows."""
        return torch.cat(
            [self.take(f"{name}.{kind}", shape) for name, shape in zip(names, shapes, strict=True)]
        )

    def fuse_linear(self, names: Sequence[str], shapes: Iterable[tuple[int, int]]) -> LinearWeight:
        """Weights of several linear layers as one; packed if all are, in the same way."""
        parts = [
            self.take_linear(f"{name}.weight", shape)
            for name, shape in zip(names, shapes, strict=True)
        ]
        packed = [part for part in parts if not isinstance(part, Tensor)]
        if len(packed) == len(parts) and len({type(part) for part in packed}) == 1:
            return stack(packed)
        return torch.cat([as_dense(part, self._dtype) for part in parts])

    def discard(self, name: str) -> None:
        """Forget a tensor that may be there."""
        self._tensors.pop(name, None)

    def check_empty(self) -> None:
        """See that every tensor was taken."""
        if self._tensors:
            names = ", ".join(sorted(self._tensors)[:5])
            raise ModelFormatError(
                f"{len(self._tensors)} tensors belong to nothing in this architecture: {names}"
            )


def as_dense(weight: LinearWeight, dtype: torch.dtype) -> Tensor:
    """A weight as a tensor: as it is, or unpacked to `dtype`."""
    return weight if isinstance(weight, Tensor) else dense(weight).to(dtype)
