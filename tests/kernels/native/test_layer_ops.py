"""Norms, the gated activation, rotation and the KV write against the references in float64."""

from itertools import product

import pytest
import torch
from torch import Tensor

from octavo.kernels import torch_operations as reference
from octavo.kernels.cpu.operations import NativeOperations

WIDTHS = [1, 7, 8, 15, 16, 17, 63, 576, 1536]
EPS = 1e-5
# Float32 sums of this many squares, a root and two products; silu's exponential: 2^-22 and less.
TOLERANCE = 1e-6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_close(result: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(result, expected.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tokens", [1, 5])
def test_rms_norm(native: NativeOperations, tokens: int) -> None:
    for width in WIDTHS:
        x, weight = random(tokens, width), random(width, seed=1)
        kept = x.clone()
        result = native.rms_norm(x, weight, EPS)
        assert_close(result, reference.rms_norm(x.double(), weight.double(), EPS))
        assert torch.equal(x, kept)


def test_rms_norm_of_zeros_and_of_large_and_small_numbers(native: NativeOperations) -> None:
    weight = random(40, seed=1)
    assert not native.rms_norm(torch.zeros(2, 40), weight, EPS).any()
    for scale in (1e15, 1e-3, 1e-15):
        x = random(3, 40) * scale
        result = native.rms_norm(x, weight, 1e-30)
        assert_close(result, reference.rms_norm(x.double(), weight.double(), 1e-30))


@pytest.mark.parametrize("rows", [None, [4], [0, 3, 3]])
def test_add_rms_norm(native: NativeOperations, rows: list[int] | None) -> None:
    picked = None if rows is None else torch.tensor(rows)
    for width in WIDTHS:
        x, residual, weight = random(5, width), random(5, width, seed=1), random(width, seed=2)
        kept = x.clone(), residual.clone()
        result, total = native.add_rms_norm(x, residual, weight, EPS, picked)
        expected, expected_total = reference.add_rms_norm(
            x.double(), residual.double(), weight.double(), EPS, picked
        )
        assert_close(result, expected)
        assert_close(total, expected_total)
        assert torch.equal(x, kept[0]) and torch.equal(residual, kept[1])


@pytest.mark.parametrize("tokens", [1, 5])
def test_silu_mul(native: NativeOperations, tokens: int) -> None:
    for width in WIDTHS:
        gate_up = random(tokens, 2 * width) * 4
        assert_close(native.silu_mul(gate_up), reference.silu_mul(gate_up.double()))


def test_silu_of_every_size(native: NativeOperations) -> None:
    """Down to gates whose sigmoid leaves float32, within the whole vectors and in the rest."""
    gates = torch.cat((torch.linspace(-120, 120, 4003), torch.logspace(-40, 4, 500)))
    gates = torch.cat((gates, -gates, torch.zeros(1)))
    gate_up = torch.stack((gates, torch.ones_like(gates)))  # [2, gates] is one long row
    result = native.silu_mul(gate_up.view(1, -1))
    torch.testing.assert_close(
        result, reference.silu_mul(gate_up.view(1, -1).double()).float(), rtol=1e-6, atol=1e-32
    )


@pytest.mark.parametrize("width", [3, 16, 20])
def test_extreme_gates(native: NativeOperations, width: int) -> None:
    for gate, expected in [(-100.0, 0.0), (100.0, 300.0), (-1e4, 0.0), (1e4, 3e4), (0.0, 0.0)]:
        gate_up = torch.cat((torch.full((2, width), gate), torch.full((2, width), 3.0)), dim=1)
        result = native.silu_mul(gate_up)
        torch.testing.assert_close(result, torch.full((2, width), expected), rtol=1e-6, atol=1e-30)


def as_written(keys: Tensor) -> Tensor:
    """Keys in the order of the reference's cache; theirs lie transposed within each block."""
    blocks, kv_heads, block_size, width = keys.shape
    return keys.view(blocks, kv_heads, width, block_size).transpose(2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("has_norm", [False, True], ids=["plain", "q/k norm"])
def test_rotate_and_write(native: NativeOperations, has_norm: bool, dtype: torch.dtype) -> None:
    sizes = [(1, 1), (3, 1), (4, 2), (15, 5)]  # query heads and KV heads
    blocks, positions = 6, 50
    for block_size, (heads, kv_heads), width in product((8, 16, 32), sizes, (2, 10, 34, 64, 128)):
        tokens = 7
        generator = torch.Generator().manual_seed(width)
        qkv = random(tokens, (heads + 2 * kv_heads) * width)
        angles = random(positions, width // 2, seed=1) * 3
        cos, sin = angles.cos(), angles.sin()
        where = torch.randint(0, positions, (tokens,), generator=generator)
        slots = torch.randperm(blocks * block_size, generator=generator)[:tokens]
        norms = (random(width, seed=2), random(width, seed=3)) if has_norm else (None, None)
        keys = random(blocks, kv_heads, block_size, width, seed=4).to(dtype)
        values = random(blocks, kv_heads, block_size, width, seed=5).to(dtype)
        expected_keys = as_written(keys).double().contiguous()
        expected_values = values.double()
        wide_norms = [None if norm is None else norm.double() for norm in norms]
        expected = reference.rotate_and_write(
            qkv.double(),
            reference.look_up_angles(cos.double(), sin.double(), where),
            slots,
            expected_keys,
            expected_values,
            num_heads=heads,
            q_norm=wide_norms[0],
            k_norm=wide_norms[1],
            eps=EPS,
        )
        query = native.rotate_and_write(
            qkv,
            native.look_up_angles(cos, sin, where),
            slots,
            keys,
            values,
            num_heads=heads,
            q_norm=norms[0],
            k_norm=norms[1],
            eps=EPS,
        )
        assert query.shape == (tokens, heads, width)
        assert_close(query, expected, 3e-6)
        # Rounded to bfloat16 from float32, a number beside the middle of two may go either way.
        tolerance = 3e-6 if dtype == torch.float32 else 2**-7
        assert_close(as_written(keys).float(), expected_keys, tolerance)
        assert torch.equal(values, expected_values.to(dtype))  # of one rounding only
        touched = torch.zeros(blocks * block_size, dtype=torch.bool)
        touched[slots] = True
        untouched = ~touched.view(blocks, 1, block_size, 1).expand_as(keys)
        assert torch.equal(as_written(keys)[untouched].double(), expected_keys[untouched])


def test_bfloat16_caches_round_to_nearest_even(native: NativeOperations) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (64, 3, 32), generator=generator).int()
    bits[:, :, ::2] &= ~0x7FFF  # ties, every other one after clearing the lower half but a bit
    bits[0, 2, :4] = torch.tensor([0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x00000001]).int()
    qkv = bits.view(torch.float32).clone()
    qkv[:, :2] = 0.0  # the query and the key; the value is stored as it comes
    keys = torch.zeros(4, 1, 16, 32, dtype=torch.bfloat16)
    values = torch.zeros_like(keys)
    expected = qkv[:, 2].bfloat16()
    native.rotate_and_write(
        qkv.view(64, 96),
        native.look_up_angles(torch.ones(1, 16), torch.zeros(1, 16), torch.zeros(64).long()),
        torch.arange(64),
        keys,
        values,
        num_heads=1,
        q_norm=None,
        k_norm=None,
        eps=EPS,
    )
    stored = values.view(64, 32)
    assert torch.equal(stored.isnan(), expected.isnan())
    is_number = ~expected.isnan()
    assert torch.equal(stored[is_number], expected[is_number])


def test_wrong_inputs_are_refused(native: NativeOperations) -> None:
    with pytest.raises(ValueError, match="x must be float32"):
        native.rms_norm(torch.zeros(2, 8).double(), torch.ones(8), EPS)
    with pytest.raises(ValueError, match=r"the weight \[9\]"):
        native.rms_norm(torch.zeros(2, 8), torch.ones(9), EPS)
    with pytest.raises(ValueError, match=r"\[2, 8\], \[3, 8\]"):
        native.add_rms_norm(torch.zeros(2, 8), torch.zeros(3, 8), torch.ones(8), EPS)
    cache = torch.zeros(2, 1, 16, 8)
    angles = native.look_up_angles(torch.ones(4, 4), torch.ones(4, 4), torch.zeros(2).long())
    options = {"num_heads": 1, "q_norm": None, "k_norm": None, "eps": EPS}
    with pytest.raises(ValueError, match=r"slots must be contiguous int64 \[2\]"):
        native.rotate_and_write(
            torch.zeros(2, 24), angles, torch.zeros(2).int(), cache, cache, **options
        )
    half = cache.half()
    with pytest.raises(ValueError, match="contiguous float32 or bfloat16"):
        native.rotate_and_write(
            torch.zeros(2, 24), angles, torch.zeros(2).long(), half, half, **options
        )
