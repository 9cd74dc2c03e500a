"""Every kind of weight against float64, over shapes on and beside the edges of tiles and parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from octavo.kernels import quantised
from octavo.kernels.gpu.linear import (
    dense_linear_deterministic,
    fp8_linear,
    quantised_linear,
    variants,
)
from octavo.kernels.gpu.linear_parts import count_parts
from octavo.kernels.gpu.quantise_rows import quantise_rows
from octavo.kernels.quantised import (
    Fp8Weight,
    QuantisedWeight,
    dense,
    linear_reference,
    quantise_fp8,
    quantise_int4,
    quantise_int8,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
QUANTISE = {"int4": quantise_int4, "int8": quantise_int8, "fp8": quantise_fp8}

# ||out - ref|| / ||ref||. Unpacked weights and the result are each rounded to x's type, to nearest
# on a GPU (2^-9 at most in bfloat16, 0.6 of that in the mean), towards zero in the interpreter
# (2^-8, 0.7 of it). In float32 only the order of the sum differs.
HALF_ULP = {torch.bfloat16: 2**-9, torch.float16: 2**-12, torch.float32: 2**-24}
ROUNDINGS = 2 if torch.cuda.is_available() else 4
# e4m3 tensor cores add up 128 products with 13 bits or so below the largest before float32 does.
FP8_TENSOR_CORES = 2e-3 if torch.cuda.is_available() else 0.0

SHAPES = [  # rows, outputs, inputs
    (1, 8, 32),
    (1, 65, 288),
    (1, 9, 4128),  # one row, its inputs in two parts of 4-bit chunks and four of 8-bit ones
    (2, 63, 96),
    (16, 64, 512),  # a few rows, in parts
    (17, 130, 64),
    (64, 64, 128),
    (65, 40, 160),
]


def tolerance(dtype: torch.dtype, fp8: bool = False) -> float:
    sums = 2e-6 if dtype == torch.float32 else 0.0
    return HALF_ULP[dtype] * ROUNDINGS + sums + (FP8_TENSOR_CORES if fp8 else 0.0)


def error(output: Tensor, expected: Tensor) -> float:
    assert output.shape == expected.shape
    return float((output.cpu().double() - expected).norm() / expected.norm())


@contextmanager
def poisoned() -> Iterator[None]:
    """torch.empty gives NaN, so that what a kernel does not write shows."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def guarded(tensor: Tensor) -> Tensor:
    """The same on the device, with NaN (or its bytes) behind the last row and within no row."""
    behind = torch.full((256,), 0xFF, dtype=torch.uint8)
    data = tensor.contiguous().view(torch.uint8).flatten()
    whole = torch.cat((data, behind)).to(DEVICE)
    return whole[: data.numel()].view(tensor.dtype).view(tensor.shape)


def on_device(weight: QuantisedWeight) -> QuantisedWeight:
    return replace(weight, **{f.name: guarded(getattr(weight, f.name)) for f in fields(weight)})


def rows_in_nan(x: Tensor) -> Tensor:
    """x on the device as a part of wider rows, as a split of a fused projection has it."""
    wide = torch.full((x.shape[0] + 1, x.shape[1] + 16), float("nan"), dtype=x.dtype)
    wide[:-1, :-16] = x
    return wide.to(DEVICE)[:-1, :-16]


def random_layer(
    rows: int, outputs: int, inputs: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.manual_seed(rows * 7919 + outputs * 31 + inputs)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    weight = torch.randn(outputs, inputs, generator=generator)
    return x, weight, torch.randn(outputs, generator=generator).to(dtype)


def check(
    compute: Callable[[Tensor, QuantisedWeight, Tensor | None], Tensor],
    kind: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    with_bias: bool,
) -> None:
    x, values, bias = random_layer(*shape, dtype)
    weight = QUANTISE[kind](values)
    expected = linear_reference(x.double(), weight, bias.double() if with_bias else None)
    x, guarded_weight = rows_in_nan(x), on_device(weight)
    with poisoned():
        output = compute(x, guarded_weight, guarded(bias) if with_bias else None)
    assert output.dtype == dtype
    assert error(output, expected) <= tolerance(dtype, fp8=kind == "fp8")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", QUANTISE)
def test_quantised_linear(kind: str, shape: tuple[int, int, int]) -> None:
    check(quantised_linear, kind, shape, torch.bfloat16, with_bias=shape[0] % 2 == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(1, 9, 96), (16, 33, 512), (17, 65, 32)])
@pytest.mark.parametrize("kind", QUANTISE)
def test_other_types(kind: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    check(quantised_linear, kind, shape, dtype, with_bias=True)


@pytest.mark.parametrize("shape", [(3, 65, 96), (66, 64, 160)])
@pytest.mark.parametrize("kind", QUANTISE)
def test_deterministic_tile(kind: str, shape: tuple[int, int, int]) -> None:
    def compute(x: Tensor, weight: QuantisedWeight, bias: Tensor | None) -> Tensor:
        return quantised_linear(x, weight, bias, deterministic=True)

    check(compute, kind, shape, torch.bfloat16, with_bias=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 65, 96), (16, 64, 256), (65, 40, 150)])
def test_fp8_weight_with_unquantised_input(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, values, bias = random_layer(*shape, dtype)
    weight = quantise_fp8(values)
    expected = x.double() @ dense(weight).double().T + bias.double()
    x, guarded_weight = rows_in_nan(x), on_device(weight)
    assert isinstance(guarded_weight, Fp8Weight)
    with poisoned():
        output = fp8_linear(x, guarded_weight, guarded(bias), quantise_x=False)
    assert error(output, expected) <= tolerance(dtype)


def test_every_e4m3_number_is_unpacked_exactly() -> None:
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    numbers = numbers[~numbers.float().isnan()][:, None]  # [254, 1]
    weight = Fp8Weight(numbers.to(DEVICE), torch.ones(len(numbers), device=DEVICE))
    x = torch.ones(1, 1, device=DEVICE)
    output = fp8_linear(x, weight, quantise_x=False)
    assert torch.equal(output[0].cpu(), numbers[:, 0].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 65, 96), (17, 64, 70), (65, 129, 33)])
def test_dense_linear_deterministic(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, weight, bias = random_layer(*shape, dtype)
    weight = weight.to(dtype)
    expected = x.double() @ weight.double().T + bias.double()
    with poisoned():
        output = dense_linear_deterministic(rows_in_nan(x), guarded(weight), guarded(bias))
    assert error(output, expected) <= tolerance(dtype)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, torch.bfloat16) for kind in (*QUANTISE, "dense")),
        *((kind, torch.float32) for kind in ("int4", "int8", "dense")),
    ],
)
def test_deterministic_rows_do_not_depend_on_others(kind: str, dtype: torch.dtype) -> None:
    x, values, bias = random_layer(70, 33, 96, dtype)
    x, bias = x.to(DEVICE), bias.to(DEVICE)

    def compute(some: Tensor) -> Tensor:
        if kind == "dense":
            return dense_linear_deterministic(some, values.to(DEVICE, dtype), bias)
        weight = on_device(QUANTISE[kind](values))
        return quantised_linear(some, weight, bias, deterministic=True)

    together = compute(x)
    # numpy's product, in the interpreter, rounds by where a row lies in its tile; a GPU's does not.
    moved = [slice(3, 20), slice(69, 70)] if torch.cuda.is_available() else []
    for some in (slice(0, 1), slice(0, 17), slice(64, 70), *moved):
        assert torch.equal(compute(x[some]), together[some])


@pytest.mark.parametrize("rows", [1, 16])
def test_a_sum_in_parts_gives_the_same_bits_again(rows: int) -> None:
    x, values, _ = random_layer(rows, 16, 4096, torch.bfloat16)
    x, weight = x.to(DEVICE), on_device(quantise_int4(values))
    assert torch.equal(quantised_linear(x, weight), quantised_linear(x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_quantised_as_the_reference_does(dtype: torch.dtype) -> None:
    x = torch.randn(9, 2100, generator=torch.manual_seed(5)).to(dtype)
    x[:, ::5] *= 0.01  # subnormal in e4m3
    x[3] = 0.0
    x[4, :7] = torch.tensor([1.0, 0.0, -1.0, 0.1875, 17 / 448, 2**-9, -(2**-10)])  # ties
    values, scales = quantise_rows(rows_in_nan(x))
    expected_values, expected_scales = quantised.quantise_rows(x)
    assert torch.equal(scales.cpu(), expected_scales)
    assert torch.equal(values.float().cpu(), expected_values.float())


@pytest.mark.parametrize(
    ("tiles", "steps", "parts"),
    [(1, 1, 1), (1, 2, 2), (1, 3, 2), (1, 100, 8), (64, 16, 4), (66, 16, 2), (132, 16, 1)],
)
def test_parts_are_made_until_the_gpu_is_full(tiles: int, steps: int, parts: int) -> None:
    assert count_parts(tiles, steps) == parts


def test_no_rows_give_no_rows() -> None:
    x = torch.empty(0, 64, dtype=torch.bfloat16, device=DEVICE)
    for quantise in QUANTISE.values():
        weight = on_device(quantise(torch.randn(8, 64)))
        assert quantised_linear(x, weight).shape == (0, 8)


def test_what_does_not_fit_is_refused() -> None:
    weight = on_device(quantise_int4(torch.randn(8, 64)))
    x = torch.randn(2, 64, device=DEVICE)
    with pytest.raises(ValueError, match="x must be float32"):
        quantised_linear(x.double(), weight)
    with pytest.raises(ValueError, match="contiguous rows"):
        quantised_linear(x[:, :32], weight)
    with pytest.raises(ValueError, match="contiguous rows"):
        quantised_linear(torch.randn(64, 2, device=DEVICE).T, weight)
    with pytest.raises(ValueError, match="bias must be"):
        quantised_linear(x, weight, torch.zeros(7, device=DEVICE))
    with pytest.raises(ValueError, match="weight must be"):
        dense_linear_deterministic(x, torch.randn(8, 64).half().to(DEVICE))


def test_variants_have_names_of_their_own() -> None:
    names = [variant.name for variant in variants()]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", QUANTISE)
@pytest.mark.parametrize("rows", [1, 16])
def test_is_captured_in_a_graph(kind: str, rows: int) -> None:
    x, values, bias = random_layer(rows, 256, 4096, torch.bfloat16)
    x, bias, weight = x.to(DEVICE), bias.to(DEVICE), on_device(QUANTISE[kind](values))
    expected = quantised_linear(x, weight, bias)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = quantised_linear(x, weight, bias)
    output.fill_(float("nan"))
    graph.replay()
    assert torch.equal(output, expected)
