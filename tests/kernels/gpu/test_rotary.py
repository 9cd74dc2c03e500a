"""The fused rotary embedding and KV write against the references in float64."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels import norm, rotary
from octavo.kernels.gpu.rotary import rotate_and_write

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
EPS = 1e-6
# One rounding of the result: 2^-9 of a bfloat16 at most, twice that in the interpreter, which
# truncates. float32: a sum of two products, and of head_dim squares where heads are normed.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 3e-3 if ON_GPU else 6e-3}
FP8_STEP = 2.0**-4  # half a step of a 3-bit fraction: where float32 and float64 round apart


@dataclass
class Case:
    """Random inputs, with caches full of NaN."""

    qkv: Tensor
    positions: Tensor
    slots: Tensor
    cos: Tensor
    sin: Tensor
    key_cache: Tensor
    value_cache: Tensor
    num_heads: int

    def run(self, **options: object) -> Tensor:
        return rotate_and_write(
            self.qkv,
            self.positions,
            self.slots,
            self.cos,
            self.sin,
            self.key_cache,
            self.value_cache,
            num_heads=self.num_heads,
            **options,
        )

    def split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value [tokens, heads, head_dim] in float64."""
        kv_heads, head_dim = self.key_cache.shape[1], self.key_cache.shape[3]
        heads = self.qkv.double().unflatten(-1, (-1, head_dim))
        return heads.split([self.num_heads, kv_heads, kv_heads], dim=1)

    def rotated(self, heads: Tensor) -> Tensor:
        cos, sin = (
            table.double()[self.positions.long()].repeat(1, 2)[:, None]
            for table in (self.cos, self.sin)
        )
        return rotary.rotate(heads, cos, sin)

    def stored(self, cache: Tensor) -> Tensor:
        """What lies in the tokens' slots: [tokens, kv_heads, head_dim] in float64."""
        block_size = cache.shape[2]
        slots = self.slots.long()
        return cache.float()[slots // block_size, :, slots % block_size].double()


def make_case(
    tokens: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    *,
    block_size: int = 16,
    cache_dtype: torch.dtype | None = None,
    table_dtype: torch.dtype | None = None,
    index_dtype: torch.dtype = torch.int64,
) -> Case:
    generator = torch.Generator().manual_seed(tokens * 1000 + head_dim)
    width = (num_heads + 2 * num_kv_heads) * head_dim
    qkv = torch.randn(tokens, width, generator=generator).to(DEVICE, dtype)
    positions = torch.randint(0, 50, (tokens,), generator=generator)
    num_blocks = -(-tokens // block_size) + 2
    # Block 0 takes padding only; the others' slots are handed out at random.
    free = torch.randperm((num_blocks - 1) * block_size, generator=generator) + block_size
    angles = torch.outer(torch.arange(50).double(), torch.rand(head_dim // 2).double())
    tables = (t.to(DEVICE, table_dtype or dtype) for t in (angles.cos(), angles.sin()))
    shape = (2, num_blocks, num_kv_heads, block_size, head_dim)
    caches = torch.full(shape, float("nan")).to(DEVICE, cache_dtype or dtype)
    return Case(
        qkv,
        positions.to(DEVICE, index_dtype),
        free[:tokens].to(DEVICE, index_dtype),
        *tables,
        *caches,
        num_heads,
    )


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result.double() - expected).norm() / expected.norm())


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the wrapper allocates is full of NaN, so that what no program writes shows."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "num_heads", "num_kv_heads", "head_dim", "block_size"),
    [
        (1, 1, 1, 16, 1),
        (3, 9, 3, 64, 16),
        (2, 16, 8, 128, 16),
        (5, 17, 1, 64, 13),
        (2, 9, 9, 80, 32),
        (2, 6, 2, 96, 7),
        (2, 3, 1, 256, 16),
    ],
)
def test_agrees_with_the_references(
    tokens: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    dtype: torch.dtype,
) -> None:
    case = make_case(tokens, num_heads, num_kv_heads, head_dim, dtype, block_size=block_size)
    result = case.run()
    query, key, value = case.split()
    assert result.dtype == dtype and result.shape == (tokens, num_heads, head_dim)
    assert relative_error(result, case.rotated(query)) < TOLERANCES[dtype]
    assert relative_error(case.stored(case.key_cache), case.rotated(key)) < TOLERANCES[dtype]
    assert torch.equal(case.stored(case.value_cache), value)
    written = tokens * num_kv_heads * head_dim
    for cache in (case.key_cache, case.value_cache):
        assert int((~cache.isnan()).sum()) == written, "something was written outside its slot"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(9, 3, 64), (2, 1, 80)])
def test_heads_are_normed_before_they_are_rotated(
    num_heads: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    case = make_case(3, num_heads, num_kv_heads, head_dim, dtype)
    q_norm, k_norm = torch.rand(2, head_dim).to(DEVICE, dtype)
    result = case.run(q_norm=q_norm, k_norm=k_norm, eps=EPS)
    query, key, value = case.split()
    query = norm.rms_norm(query, q_norm.double(), EPS)
    key = norm.rms_norm(key, k_norm.double(), EPS)
    assert relative_error(result, case.rotated(query)) < TOLERANCES[dtype]
    assert relative_error(case.stored(case.key_cache), case.rotated(key)) < TOLERANCES[dtype]
    assert torch.equal(case.stored(case.value_cache), value)


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64], ids=str)
def test_tables_may_be_float32_and_rows_may_lie_apart(index_dtype: torch.dtype) -> None:
    case = make_case(4, 4, 2, 32, torch.float16, table_dtype=torch.float32, index_dtype=index_dtype)
    wide = torch.full((4, case.qkv.shape[1] + 40), float("nan"), device=DEVICE).half()
    wide[:, 8 : 8 + case.qkv.shape[1]] = case.qkv
    case.qkv = wide[:, 8 : 8 + case.qkv.shape[1]]
    query, key, _ = case.split()
    assert relative_error(case.run(), case.rotated(query)) < TOLERANCES[torch.float16]
    stored = case.stored(case.key_cache)
    assert relative_error(stored, case.rotated(key)) < TOLERANCES[torch.float16]


def test_padding_goes_into_block_0() -> None:
    case = make_case(5, 2, 1, 16, torch.float32, block_size=4)
    case.slots[1:4] = 0
    case.run()
    _, key, value = case.split()
    kept = torch.tensor([0, 4], device=DEVICE)
    stored_keys, stored_values = case.stored(case.key_cache), case.stored(case.value_cache)
    assert relative_error(stored_keys[kept], case.rotated(key)[kept]) < 1e-6
    assert torch.equal(stored_values[kept], value[kept])
    assert int((~case.value_cache.isnan()).sum()) == 3 * 16


def test_caches_may_be_layers_of_one_tensor() -> None:
    case = make_case(3, 4, 2, 32, torch.float32)
    whole = torch.full((3, 2, *case.key_cache.shape), float("nan"), device=DEVICE)
    case.key_cache, case.value_cache = whole[1, 0], whole[1, 1]
    case.run()
    _, key, value = case.split()
    assert relative_error(case.stored(case.key_cache), case.rotated(key)) < 1e-6
    assert torch.equal(case.stored(case.value_cache), value)
    assert bool(whole[0].isnan().all()) and bool(whole[2].isnan().all())


def test_float8_caches_hold_what_torch_would_round_to() -> None:
    case = make_case(9, 3, 3, 64, torch.float32, cache_dtype=torch.float8_e4m3fn)
    scales = torch.logspace(-4, 4, 9, base=10.0).to(DEVICE)
    case.qkv *= scales[:, None]  # from below the smallest float8 to beyond the largest
    case.qkv[0, -3:] = torch.tensor([0.0, -0.0, float("nan")], device=DEVICE)
    k_scale, v_scale = 0.5, 3.0
    case.run(k_scale=k_scale, v_scale=v_scale)
    _, key, value = case.split()
    expected = (value.float() / v_scale).clamp(-448, 448).to(torch.float8_e4m3fn).float()
    assert torch.equal(case.stored(case.value_cache).nan_to_num(7), expected.double().nan_to_num(7))
    # Keys are rotated in float32 here: a value near the middle of two steps may go either way.
    rotated = case.rotated(key).clamp(-448 * k_scale, 448 * k_scale) / k_scale
    expected = rotated.float().to(torch.float8_e4m3fn).double()
    stored = case.stored(case.key_cache)
    assert int((stored != expected).sum()) <= 2
    assert bool(((stored - expected).abs() <= 2 * FP8_STEP * expected.abs() + 2.0**-9).all())


def test_every_float8_and_every_tie_is_rounded_as_torch_does() -> None:
    codes = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    ties = (codes[1:] + codes[:-1]) / 2
    above = torch.nextafter(ties, torch.full_like(ties, torch.inf))
    below = torch.nextafter(ties, torch.zeros_like(ties))
    values = torch.cat([codes, ties, above, below, torch.tensor([448.5, 1e30, torch.inf])])
    values = torch.cat([values, -values, torch.zeros(-2 * len(values) % 64)]).to(DEVICE)
    tokens = len(values) // 64
    case = make_case(tokens, 1, 1, 64, torch.float32, cache_dtype=torch.float8_e4m3fn)
    case.qkv[:, -64:] = values.view(tokens, 64)
    case.run()
    expected = values.clamp(-448, 448).to(torch.float8_e4m3fn).double()
    assert torch.equal(case.stored(case.value_cache).flatten(), expected)


def test_nothing_to_do_is_fine() -> None:
    assert make_case(0, 2, 1, 16, torch.float32).run().shape == (0, 2, 16)


def test_wrong_inputs_are_refused() -> None:
    case = make_case(2, 2, 1, 16, torch.float32)
    weight = torch.ones(16, device=DEVICE)
    with pytest.raises(ValueError, match="go together"):
        case.run(q_norm=weight)
    with pytest.raises(ValueError, match="float8 caches only"):
        case.run(k_scale=2.0)
    with pytest.raises(ValueError, match=r"contiguous \[16\]"):
        case.run(q_norm=weight[:8], k_norm=weight)
    case.num_heads = 3
    with pytest.raises(ValueError, match="qkv must be"):
        case.run()
    case.num_heads = 2
    case.positions = case.positions.float()
    with pytest.raises(ValueError, match="positions must be"):
        case.run()
