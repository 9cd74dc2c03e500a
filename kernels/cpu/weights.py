"""Weights of linear layers in the order in which the native kernels read them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..quantised import GROUP, Int4Weight, Int8Weight
from .library import (
    BFLOAT16,
    FLOAT32,
    INT4,
    INT8,
    PANEL,
    EmbeddingStruct,
    Library,
    LinearStruct,
)


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """Weights [outputs, inputs] in panels of 16 outputs (linear_t in native/octavo.h)."""

    kind: int
    shape: tuple[int, int]
    panels: Tensor
    scales: Tensor | None = None
    minimums: Tensor | None = None

    def struct(self, bias: Tensor | None = None) -> LinearStruct:
        """What C reads. It borrows these tensors and the bias (float32, contiguous)."""
        return LinearStruct(
            self.panels.data_ptr(),
            None if self.scales is None else self.scales.data_ptr(),
            None if self.minimums is None else self.minimums.data_ptr(),
            None if bias is None else bias.data_ptr(),
            *self.shape,
            self.kind,
        )


def embedding_struct(weight: Tensor | Int4Weight | Int8Weight) -> EmbeddingStruct:
    """What C reads of an embedding [vocab, hidden]; it borrows contiguous tensors.

    Dense ones are float32 or bfloat16.
    """
    if isinstance(weight, Tensor):
        if not weight.is_contiguous() or weight.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"an embedding must be float32 or bfloat16, got {weight.dtype}")
        kind = FLOAT32 if weight.dtype is torch.float32 else BFLOAT16
        return EmbeddingStruct(weight.data_ptr(), None, None, kind)
    if isinstance(weight, Int8Weight):
        return EmbeddingStruct(weight.values.data_ptr(), weight.scales.data_ptr(), None, INT8)
    return EmbeddingStruct(
        weight.packed.data_ptr(), weight.scales.data_ptr(), weight.minimums.data_ptr(), INT4
    )


def pack(library: Library, weight: Tensor | Int4Weight | Int8Weight) -> PackedWeight:
    """Lay weights out in panels; the rest of the last panel is zero.

    Dense weights stay bfloat16 if they are, and become float32 otherwise. Integers stay what they
    are, but for an int8 of -128, which becomes -127.
    """
    outputs, inputs = weight.shape
    rows = -(-outputs // PANEL) * PANEL
    if isinstance(weight, Tensor):
        dense = weight if weight.dtype is torch.bfloat16 else weight.float()
        dense = dense.contiguous()
        panels = torch.empty(rows * inputs, dtype=dense.dtype)
        library.pack_float(
            dense.data_ptr(), outputs, inputs, dense.element_size(), panels.data_ptr()
        )
        kind = BFLOAT16 if dense.dtype is torch.bfloat16 else FLOAT32
        return PackedWeight(kind, (outputs, inputs), panels)
    if isinstance(weight, Int8Weight):
        panels = torch.empty(rows * inputs, dtype=torch.int8)
        library.pack_int8(weight.values.data_ptr(), outputs, inputs, panels.data_ptr())
        scales = _pack_scales(library, weight.scales)
        return PackedWeight(INT8, (outputs, inputs), panels, scales)
    panels = torch.empty(rows * inputs // 2, dtype=torch.uint8)
    library.pack_int4(weight.packed.data_ptr(), outputs, inputs, panels.data_ptr())
    return PackedWeight(
        INT4,
        (outputs, inputs),
        panels,
        _pack_scales(library, weight.scales),
        _pack_scales(library, weight.minimums),
    )


def _pack_scales(library: Library, scales: Tensor) -> Tensor:
    outputs, groups = scales.shape
    packed = torch.empty(-(-outputs // PANEL) * PANEL * groups, dtype=torch.float16)
    library.pack_scales(scales.data_ptr(), outputs, groups, packed.data_ptr())
    return packed


def unpack(weight: PackedWeight) -> Tensor:
    """The weights as float32 [outputs, inputs]."""
    outputs, inputs = weight.shape
    if weight.scales is None:
        panels = weight.panels.float().view(-1, inputs, PANEL)
        return panels.transpose(1, 2).reshape(-1, inputs)[:outputs].contiguous()
    groups = inputs // GROUP
    if weight.kind == INT4:
        nibbles = weight.panels.view(-1, groups, 4, PANEL, 4)
        numbers = torch.cat((nibbles & 15, nibbles >> 4), dim=2)
    else:
        numbers = weight.panels.view(-1, groups, 8, PANEL, 4)
    values = numbers.permute(0, 3, 1, 2, 4).reshape(-1, groups, GROUP).float()
    values *= _by_output(weight.scales, groups)
    if weight.minimums is not None:
        values += _by_output(weight.minimums, groups)
    return values.flatten(1)[:outputs].contiguous()


def _by_output(scales: Tensor, groups: int) -> Tensor:
    """[panels][groups][16] as float32 [outputs, groups, 1]."""
    panels = scales.float().view(-1, groups, PANEL)
    return panels.transpose(1, 2).reshape(-1, groups, 1)
