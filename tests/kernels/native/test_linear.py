"""Linear layers of every kind of weight against float64, and row by row."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from octavo.kernels.cpu.operations import NativeOperations
from octavo.kernels.quantised import (
    GROUP,
    Fp8Weight,
    Int4Weight,
    Int8Weight,
    dense,
    from_gguf,
    quantise_fp8,
    quantise_int4,
    quantise_int8,
)

# Outputs and inputs; 1037 outputs are enough panels for the threads to take them by eights.
SHAPES = [(1, 32), (5, 64), (16, 96), (17, 1536), (33, 576), (1037, 64)]
ODD_SHAPES = [(1, 1), (7, 33), (19, 50)]  # of float weights only: integers come in groups of 32
TOKENS = [1, 2, 3, 5, 6, 7, 12, 64, 65, 130]
HALF_STEP = 2.0**-24  # of rounding to float32, relative

Weight = Tensor | Int4Weight | Int8Weight


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_int4(outputs: int, inputs: int) -> Int4Weight:
    """Every byte value; minimums that do not cancel what the numbers add up to."""
    generator = torch.Generator().manual_seed(inputs)
    blocks = torch.randint(0, 256, (outputs, inputs // GROUP, 20), generator=generator).byte()
    halves = random(outputs, inputs // GROUP, 2, seed=outputs).half()
    halves[0, 0, 0] = 2.0**-20  # a float16 that is not normal
    blocks[:, :, :4] = halves.view(torch.uint8)
    weight = from_gguf(blocks.flatten(1), "Q4_1")
    assert isinstance(weight, Int4Weight)
    return weight


def random_int8(outputs: int, inputs: int) -> Int8Weight:
    generator = torch.Generator().manual_seed(inputs)
    values = torch.randint(-127, 128, (outputs, inputs), generator=generator).to(torch.int8)
    values[:, ::GROUP], values[:, 1::GROUP] = 127, -127
    return Int8Weight(values, random(outputs, inputs // GROUP, seed=outputs).half())


KINDS: dict[str, Callable[[int, int], Weight]] = {
    "float32": random,
    "bfloat16": lambda outputs, inputs: random(outputs, inputs).bfloat16(),
    "int4": random_int4,
    "int8": random_int8,
}
INTEGERS = ["int4", "int8"]


def round_to_integers(x: Tensor) -> tuple[Tensor, Tensor]:
    """The kernels' own rounding of x [tokens, inputs]: integers [tokens, groups, 32], and scales.

    Whether the product is rounded before it becomes an integer depends on the processor: inputs
    for which that matters become zero in x itself, so that there is one right answer.
    """
    groups = x.view(len(x), -1, GROUP)
    amax = groups.abs().amax(2, keepdim=True)
    factors = torch.where(amax > 0, 127.0 / amax, 0.0)
    exact = (groups.double() * factors.double()).round()
    groups[exact != (groups * factors).round()] = 0.0
    return (groups.double() * factors.double()).round(), (amax / 127.0).double().squeeze(2)


def expected_of_integers(x: Tensor, weight: Int4Weight | Int8Weight) -> tuple[Tensor, Tensor]:
    """The exact result of the integers' arithmetic, and the sum of its terms' sizes; float64."""
    integers, scales = round_to_integers(x)
    weight_scales = weight.scales.double()
    if isinstance(weight, Int4Weight):
        ones = torch.ones_like(weight.scales)
        numbers = dense(Int4Weight(weight.packed, ones, torch.zeros_like(ones)))
        minimums = weight.minimums.double()
    else:
        numbers, minimums = weight.values, torch.zeros_like(weight_scales)
    numbers = numbers.double().unflatten(1, (-1, GROUP))
    result = torch.zeros(len(x), weight.shape[0], dtype=torch.float64)
    sizes = torch.zeros_like(result)
    for group in range(numbers.shape[1]):
        products = integers[:, group] @ numbers[:, group].T * weight_scales[:, group]
        offsets = integers[:, group].sum(1, keepdim=True) * minimums[:, group]
        result += scales[:, group, None] * (products + offsets)
        sizes += scales[:, group, None] * (products.abs() + offsets.abs())
    return result, sizes


def expected_of_floats(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    wide = weight.double()
    return x.double() @ wide.T, x.double().abs() @ wide.abs().T


def check(native: NativeOperations, x: Tensor, weight: Weight, bias: Tensor | None) -> None:
    """Errors stay within what that many roundings of float32 add up to, as a random walk."""
    if isinstance(weight, Tensor):
        (expected, sizes), steps = expected_of_floats(x, weight), x.shape[1]
    else:
        (expected, sizes), steps = expected_of_integers(x, weight), x.shape[1] // GROUP
    if bias is not None:
        expected, sizes = expected + bias, sizes + bias.abs()
    result = native.linear(x, native.prepare(weight), bias)
    assert result.dtype == torch.float32 and result.shape == expected.shape
    errors = (result.double() - expected).abs()
    assert (errors <= HALF_STEP * (4 * steps**0.5 + 4) * sizes + 1e-44).all()


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_float64(native: NativeOperations, kind: str) -> None:
    shapes = SHAPES if kind in INTEGERS else SHAPES + ODD_SHAPES
    for outputs, inputs in shapes:
        weight, bias = KINDS[kind](outputs, inputs), random(outputs, seed=1)
        for tokens in TOKENS:
            x = random(tokens, inputs, seed=tokens)
            check(native, x, weight, bias if tokens % 2 else None)


@pytest.mark.parametrize("kind", KINDS)
def test_large_and_small_inputs(native: NativeOperations, kind: str) -> None:
    weight = KINDS[kind](18, 96)
    for scale in (1e30, 1e-15, 1e-30):
        check(native, random(7, 96) * scale, weight, None)
    uneven = random(7, 96) * torch.logspace(-9, 9, 96)  # one input rules its group
    check(native, uneven, weight, None)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_give_the_bias(native: NativeOperations, kind: str) -> None:
    weight, bias = native.prepare(KINDS[kind](18, 96)), random(18)
    assert torch.equal(native.linear(torch.zeros(3, 96), weight, bias), bias.expand(3, 18))
    assert not native.linear(torch.zeros(3, 96), weight, None).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_zeros_among_others(native: NativeOperations, kind: str) -> None:
    x = random(5, 96)
    x[:, 32:64] = 0.0
    x[2] = 0.0
    check(native, x, KINDS[kind](18, 96), None)


@pytest.mark.parametrize("kind", INTEGERS)
def test_inputs_too_small_for_a_scale_count_as_nothing(native: NativeOperations, kind: str) -> None:
    """127 over such an input is beyond float32."""
    x = torch.full((3, 64), 1e-38)
    x[1, ::2] = -1e-40
    x[2, :] = 1e-45
    result = native.linear(x, native.prepare(KINDS[kind](18, 64)), None)
    assert (result.abs() < 1e-33).all()


@pytest.mark.parametrize("kind", INTEGERS)
def test_every_pair_of_factors(native: NativeOperations, kind: str) -> None:
    """One input and one weight at a time over their whole ranges, at each place of a group."""
    factors = torch.arange(-127, 128).float()
    x = torch.zeros(255 * GROUP, GROUP)
    places = torch.arange(GROUP).repeat(255)
    x[torch.arange(len(x)), places] = factors.repeat_interleave(GROUP)
    x[torch.arange(len(x)), (places + 1) % GROUP] = 127.0  # the scale is 1
    ones = torch.ones(256, 1, dtype=torch.float16)
    numbers = torch.zeros(256, GROUP)
    if kind == "int8":
        numbers[:] = torch.arange(-127, 129).clamp(max=127)[:, None]
        weight: Weight = Int8Weight(numbers.to(torch.int8), ones)
    else:
        numbers[:] = (torch.arange(256) % 16)[:, None]
        both = numbers.byte()[:, :16] | numbers.byte()[:, 16:] << 4
        weight = Int4Weight(both, ones, torch.zeros_like(ones))
    result = native.linear(x, native.prepare(weight), None)
    assert torch.equal(result, (x.double() @ numbers.double().T).float())


@pytest.mark.parametrize("kind", INTEGERS)
def test_a_full_group_does_not_overflow(native: NativeOperations, kind: str) -> None:
    x = torch.full((3, GROUP), 127.0)
    x[1] = -127.0
    x[2, ::2] = -127.0
    ones = torch.ones(1, 1, dtype=torch.float16)
    if kind == "int8":
        extremes = [torch.full((1, GROUP), value, dtype=torch.int8) for value in (127, -127)]
        weights: list[Weight] = [Int8Weight(values, ones) for values in extremes]
        products = [127 * 127 * GROUP, -127 * 127 * GROUP]
    else:
        full = torch.full((1, GROUP // 2), 255, dtype=torch.uint8)
        weights, products = [Int4Weight(full, ones, torch.zeros_like(ones))], [15 * 127 * GROUP]
    for weight, product in zip(weights, products, strict=True):
        result = native.linear(x, native.prepare(weight), None)
        assert result.flatten().tolist() == [product, -product, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_others(
    native: NativeOperations, kind: str, with_threads: Callable[[int], None]
) -> None:
    for outputs, inputs in [(33, 576), (1037, 64)]:
        weight, bias = native.prepare(KINDS[kind](outputs, inputs)), random(outputs)
        x = random(130, inputs)
        together = native.linear(x, weight, bias)
        for threads in (1, 2, 3):
            with_threads(threads)
            assert torch.equal(native.linear(x, weight, bias), together)
            for first, count in [(t, 1) for t in range(0, 130, 7)] + [(0, n) for n in TOKENS]:
                part = native.linear(x[first : first + count], weight, bias)
                assert torch.equal(part, together[first : first + count]), (first, count)
            assert torch.equal(native.linear(x[61:128], weight, bias), together[61:128])


def test_eight_bit_floats_become_dense(native: NativeOperations) -> None:
    weight = quantise_fp8(random(18, 50))
    assert isinstance(weight, Fp8Weight)
    prepared = native.prepare(weight)
    x = random(3, 50)
    expected = native.linear(x, native.prepare(dense(weight)), None)
    assert torch.equal(native.linear(x, prepared, None), expected)


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8])
def test_quantised_inputs_cost_little(native: NativeOperations, quantise) -> None:
    """Against the float layer of the same weights: half a step of 127 an input, uniform."""
    weight = quantise(random(40, 1536))
    x = random(9, 1536, seed=2)
    expected = x.double() @ dense(weight).double().T
    error = native.linear(x, native.prepare(weight), None) - expected
    assert error.norm() < 0.01 * expected.norm()


def test_wrong_inputs_are_refused(native: NativeOperations) -> None:
    weight = native.prepare(random(4, 8))
    with pytest.raises(ValueError, match=r"x is \[2, 7\]"):
        native.linear(torch.zeros(2, 7), weight, None)
    with pytest.raises(ValueError, match="x must be float32"):
        native.linear(torch.zeros(2, 8, dtype=torch.bfloat16), weight, None)
    with pytest.raises(ValueError, match="bias must be float32"):
        native.linear(torch.zeros(2, 8), weight, torch.zeros(4).double())
