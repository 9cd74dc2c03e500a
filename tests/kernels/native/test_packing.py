"""Weights laid out for the kernels are the same numbers, and what they do not fill is zero."""

import pytest
import torch
from torch import Tensor

from octavo.kernels.cpu.library import PANEL, Library
from octavo.kernels.cpu.weights import pack, unpack
from octavo.kernels.quantised import (
    Int8Weight,
    QuantisedWeight,
    dense,
    from_gguf,
    quantise_int4,
    quantise_int8,
)

SHAPES = [(1, 32), (15, 64), (16, 32), (17, 96), (50, 160)]  # outputs, inputs


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_gguf(outputs: int, inputs: int) -> QuantisedWeight:
    generator = torch.Generator().manual_seed(outputs)
    blocks = torch.randint(0, 256, (outputs, inputs // 32, 20), generator=generator).byte()
    blocks[:, :, :4] = random(outputs, inputs // 32, 2).half().view(torch.uint8)
    return from_gguf(blocks.flatten(1), "Q4_1")


def random_int8(outputs: int, inputs: int) -> Int8Weight:
    generator = torch.Generator().manual_seed(outputs)
    values = torch.randint(-127, 128, (outputs, inputs), generator=generator).to(torch.int8)
    return Int8Weight(values, random(outputs, inputs // 32).half())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("outputs", "inputs"), [*SHAPES, (3, 1), (33, 7)])
def test_dense_weights_come_back(
    library: Library, outputs: int, inputs: int, dtype: torch.dtype
) -> None:
    weight = random(outputs, inputs).to(dtype)
    packed = pack(library, weight)
    assert packed.panels.dtype == dtype
    assert packed.shape == (outputs, inputs)
    assert torch.equal(unpack(packed), weight.float())
    padding = packed.panels.view(-1, inputs, PANEL)[-1, :, (outputs - 1) % PANEL + 1 :]
    assert not padding.any()


def test_other_floats_become_float32_and_strides_do_not_matter(library: Library) -> None:
    weight = random(20, 10).half().T
    packed = pack(library, weight)
    assert packed.panels.dtype == torch.float32
    assert torch.equal(unpack(packed), weight.float())


@pytest.mark.parametrize("make", [random_gguf, random_int8])
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_integers_come_back(library: Library, outputs: int, inputs: int, make) -> None:
    weight = make(outputs, inputs)
    packed = pack(library, weight)
    assert torch.equal(unpack(packed), dense(weight))
    rows = -(-outputs // PANEL) * PANEL
    assert packed.panels.numel() * packed.panels.element_size() == (
        rows * inputs if isinstance(weight, Int8Weight) else rows * inputs // 2
    )
    padding = packed.scales.view(-1, inputs // 32, PANEL)[-1, :, (outputs - 1) % PANEL + 1 :]
    assert not padding.any()


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8])
def test_quantised_weights_come_back(library: Library, quantise) -> None:
    weight = quantise(random(37, 128))
    assert torch.equal(unpack(pack(library, weight)), dense(weight))


def test_int8_of_minus_128_becomes_minus_127_and_nothing_else_moves(library: Library) -> None:
    values = torch.arange(-128, 128).to(torch.int8).view(8, 32)
    packed = pack(library, Int8Weight(values, torch.ones(8, 1, dtype=torch.float16)))
    assert torch.equal(unpack(packed), values.float().clamp(min=-127))
