from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from octavo.kernels.quantised import (
    Fp8Weight,
    GGUFKind,
    Int4Weight,
    Int8Weight,
    dense,
    from_gguf,
    linear_reference,
    quantise_fp8,
    quantise_int4,
    quantise_int8,
    quantise_rows,
)

KINDS: list[GGUFKind] = ["Q4_0", "Q4_1", "Q8_0"]


def random_blocks(kind: str, outputs: int, groups: int, seed: int = 0) -> np.ndarray:
    """Random bytes whose float16 fields are random, finite and of either sign."""
    generator = np.random.default_rng(seed)
    header = 2 if kind == "Q4_1" else 1
    halves = generator.standard_normal((outputs, groups, header)).astype(np.float16)
    numbers = generator.integers(0, 256, (outputs, groups, 32 if kind == "Q8_0" else 16))
    blocks = np.concatenate((halves.view(np.uint8), numbers.astype(np.uint8)), axis=2)
    return blocks.reshape(outputs, -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("outputs", "groups"), [(1, 1), (7, 3), (32, 18)])
def test_gguf_blocks_mean_what_gguf_says(kind: GGUFKind, outputs: int, groups: int) -> None:
    blocks = random_blocks(kind, outputs, groups)
    expected = gguf.quants.dequantize(blocks, GGMLQuantizationType[kind])
    weight = from_gguf(torch.from_numpy(blocks), kind)
    assert weight.shape == (outputs, groups * 32)
    # Q4_0 is d * (q - 8) there and d * q - 8 * d here: the same but for the last bit.
    torch.testing.assert_close(dense(weight), torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.slow  # gguf's reader takes seconds for the vocabulary
def test_real_file_is_read_without_loss(smollm2_gguf: Path) -> None:
    checked = set()
    for tensor in gguf.GGUFReader(smollm2_gguf).tensors:
        kind = tensor.tensor_type.name
        if kind not in KINDS or (kind, tensor.data.shape) in checked:
            continue
        checked.add((kind, tensor.data.shape))
        blocks = np.array(tensor.data[:1000])
        expected = gguf.quants.dequantize(blocks, tensor.tensor_type)
        weight = from_gguf(torch.from_numpy(blocks), kind)
        assert torch.equal(dense(weight), torch.from_numpy(expected))
    assert "Q4_1" in {kind for kind, _ in checked}


def test_low_nibbles_come_first() -> None:
    blocks = torch.zeros(1, 20, dtype=torch.uint8)
    blocks[0, :2] = torch.tensor([1.0]).half().view(torch.uint8)
    blocks[0, 4:] = torch.arange(16) | (15 - torch.arange(16)) << 4
    expected = torch.cat((torch.arange(16), torch.arange(15, -1, -1))).float()
    assert torch.equal(dense(from_gguf(blocks, "Q4_1"))[0], expected)


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8])
def test_what_is_on_the_grid_is_kept(quantise) -> None:
    """Random numbers at the ends of the range and between, in steps that float16 holds."""
    numbers = torch.randint(0, 16, (5, 3, 32), generator=torch.manual_seed(0))
    numbers[:, :, 0], numbers[:, :, 31] = 0, 15
    weight = numbers.flatten(1) / 8 - 1
    if quantise is quantise_int8:
        weight[:, ::32] = -127 / 8
    assert torch.equal(dense(quantise(weight)), weight)


@pytest.mark.parametrize(
    ("quantise", "most"), [(quantise_int4, 0.5 / 15), (quantise_int8, 0.5 / 127)]
)
def test_no_weight_moves_by_more_than_half_a_step(quantise, most: float) -> None:
    weight = torch.randn(64, 96, generator=torch.manual_seed(1))
    groups = weight.unflatten(1, (-1, 32))
    span = groups.amax(2) - groups.amin(2)
    if quantise is quantise_int8:
        span = groups.abs().amax(2)
    error = (dense(quantise(weight)) - weight).abs().unflatten(1, (-1, 32)).amax(2)
    # 1e-3 of the span: scale and minimum are rounded to float16, 2^-11 of their size.
    assert (error <= span * (most + 1e-3)).all()


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8, quantise_fp8])
def test_rows_of_one_value_and_of_zeros_are_kept(quantise) -> None:
    weight = torch.zeros(3, 64)
    weight[1] = 1.75
    result = dense(quantise(weight))
    assert torch.equal(result[0], weight[0])
    torch.testing.assert_close(result[1], weight[1], rtol=1e-3, atol=0)  # float16 scales


def test_fp8_rows_reach_the_end_of_the_range_and_round_to_nearest() -> None:
    x = torch.randn(9, 130, generator=torch.manual_seed(2)) * torch.logspace(-3, 3, 9)[:, None]
    values, scales = quantise_rows(x)
    assert (values.float().abs().amax(1) == 448).all()
    error = (values.float() * scales[:, None] - x).abs()
    # Three bits of mantissa: half a step is 2^-4 of the value, or of the least normal number.
    assert (error <= torch.maximum(x.abs(), scales[:, None] * 2**-6) * (2**-4 + 1e-6)).all()


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8, quantise_fp8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reference_is_a_linear_layer_of_the_dense_weight(quantise, dtype: torch.dtype) -> None:
    generator = torch.manual_seed(3)
    x = torch.randn(5, 64, generator=generator).to(dtype)
    weight = quantise(torch.randn(7, 64, generator=generator))
    bias = torch.randn(7, generator=generator).to(dtype)
    expected = torch.nn.functional.linear(x.double(), dense(weight).double(), bias.double())
    result = linear_reference(x, weight, bias)
    assert result.dtype == dtype
    # The input's own quantisation to e4m3 costs up to 2^-4 an element, in the mean far less.
    tolerance = 0.05 if isinstance(weight, Fp8Weight) else torch.finfo(dtype).eps
    assert (result - expected).norm() <= tolerance * expected.norm()


def test_wrong_parts_are_refused() -> None:
    packed = torch.zeros(4, 32, dtype=torch.uint8)
    groups = torch.zeros(4, 2, dtype=torch.float16)
    with pytest.raises(ValueError, match="scales must be contiguous"):
        Int4Weight(packed, groups.float(), groups)
    with pytest.raises(ValueError, match="values must be contiguous"):
        Int8Weight(packed, groups)
    with pytest.raises(ValueError, match="scales must be contiguous"):
        Fp8Weight(packed.view(torch.float8_e4m3fn), torch.zeros(3))
    with pytest.raises(ValueError, match="multiple of 18"):
        from_gguf(packed, "Q4_0")
    with pytest.raises(ValueError, match="kind must be one of"):
        from_gguf(packed, "Q5_K")  # type: ignore[arg-type]
