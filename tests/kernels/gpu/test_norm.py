"""RMSNorm kernels against the reference in float64."""

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels import norm as reference
from octavo.kernels.gpu import norm

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
EPS = 1e-5
# One rounding of the result: half a unit in the last place is 2^-9 of a bfloat16 at most, and the
# interpreter truncates instead of rounding, which makes it twice that. float32: sums of 4096 terms.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 3e-3 if ON_GPU else 6e-3}


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a wrapper allocates is full of NaN, so that what no program writes shows."""
    for name in ("empty", "empty_like"):
        allocate = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda *a, allocate=allocate, **k: allocate(*a, **k).fill_(float("nan"))
        )


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("rows", "hidden"), [(1, 64), (17, 64), (3, 576), (5, 1000), (2, 1024), (3, 1025), (1, 4096)]
)
def test_norm_agrees_with_the_reference(rows: int, hidden: int, dtype: torch.dtype) -> None:
    x = random(rows, hidden, dtype=dtype)
    weight = random(hidden, dtype=dtype, seed=1)
    expected = reference.rms_norm(x.double(), weight.double(), EPS)
    result = norm.rms_norm(x, weight, EPS)
    assert result.dtype == dtype and result.shape == x.shape
    assert relative_error(result, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("rows", "hidden"), [(1, 64), (9, 576), (3, 2048), (2, 2049)])
def test_sum_is_rounded_before_it_is_normed(rows: int, hidden: int, dtype: torch.dtype) -> None:
    x, residual = random(rows, hidden, dtype=dtype), random(rows, hidden, dtype=dtype, seed=1)
    weight = random(hidden, dtype=dtype, seed=2)
    normed, total = norm.add_rms_norm(x, residual, weight, EPS)
    if dtype == torch.bfloat16 and not ON_GPU:
        assert relative_error(total, x.double() + residual.double()) < TOLERANCES[dtype]
    else:
        assert torch.equal(total, x + residual)
    expected = reference.rms_norm(total.double(), weight.double(), EPS)
    assert relative_error(normed, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("hidden", [96, 1500])
def test_rows_are_gathered(hidden: int, index_dtype: torch.dtype) -> None:
    x, residual = (random(11, hidden, dtype=torch.float32, seed=seed) for seed in (0, 1))
    weight = random(hidden, dtype=torch.float32, seed=2)
    rows = torch.tensor([10, 0, 3, 3, 7], dtype=index_dtype, device=DEVICE)
    normed, total = norm.add_rms_norm(x, residual, weight, EPS, rows)
    expected = reference.add_rms_norm(x.double(), residual.double(), weight.double(), EPS)
    assert torch.equal(total, (x + residual)[rows.long()])
    assert relative_error(normed, expected[0][rows.long()]) < TOLERANCES[torch.float32]


def test_rows_may_lie_apart_and_the_weight_may_be_float32() -> None:
    wide = random(6, 400, dtype=torch.float16)
    x, residual = wide[:, 8:208], wide[:, 200:]
    weight = random(200, dtype=torch.float32, seed=1)
    normed, total = norm.add_rms_norm(x, residual, weight, EPS)
    assert torch.equal(total, x + residual)
    expected = reference.rms_norm(total.double(), weight.double(), EPS)
    assert relative_error(normed, expected) < TOLERANCES[torch.float16]


def test_the_widest_row_fits() -> None:
    x = random(1, norm.MAX_HIDDEN, dtype=torch.float32)
    weight = random(norm.MAX_HIDDEN, dtype=torch.float32, seed=1)
    expected = reference.rms_norm(x.double(), weight.double(), EPS)
    assert relative_error(norm.rms_norm(x, weight, EPS), expected) < TOLERANCES[torch.float32]


def test_nothing_to_do_is_fine() -> None:
    x = torch.zeros(0, 64, device=DEVICE)
    normed, total = norm.add_rms_norm(x, x, torch.ones(64, device=DEVICE), EPS)
    assert normed.shape == total.shape == (0, 64)


def test_wrong_inputs_are_refused() -> None:
    x, weight = torch.zeros(2, 64, device=DEVICE), torch.zeros(64, device=DEVICE)
    with pytest.raises(ValueError, match="hidden size 20000"):
        norm.rms_norm(torch.zeros(1, 20000, device=DEVICE), weight, EPS)
    with pytest.raises(ValueError, match="side by side"):
        norm.rms_norm(torch.zeros(64, 64, device=DEVICE).T, weight, EPS)
    with pytest.raises(ValueError, match="weight must be"):
        norm.rms_norm(x, weight[:32], EPS)
    with pytest.raises(ValueError, match="residual must be"):
        norm.add_rms_norm(x, x.half(), weight, EPS)
    with pytest.raises(ValueError, match="rows must be"):
        norm.add_rms_norm(x, x, weight, EPS, torch.zeros(2, device=DEVICE))
