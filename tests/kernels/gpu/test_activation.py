"""The gated activation's kernel against the reference in float64."""

import pytest
import torch

pytest.importorskip("triton")

from octavo.kernels import activation as reference
from octavo.kernels.gpu import activation

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
# Two roundings (of silu and of the product), 2^-9 of a bfloat16 each at most; the interpreter
# truncates instead, which makes each twice that. float32: the exponential's last bits.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 7e-4, torch.bfloat16: 4e-3 if ON_GPU else 9e-3}


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the wrapper allocates is full of NaN, so that what no program writes shows."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")))


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(*shape, generator=generator)).to(DEVICE, dtype)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("width", [1, 63, 1024, 1025, 1536, 2048, 2049])
def test_agrees_with_the_reference(tokens: int, width: int, dtype: torch.dtype) -> None:
    gate_up = random(tokens, 2 * width, dtype=dtype)
    result = activation.silu_mul(gate_up)
    assert result.dtype == dtype and result.shape == (tokens, width)
    assert relative_error(result, reference.silu_mul(gate_up.double())) < TOLERANCES[dtype]


def test_rows_may_lie_apart() -> None:
    gate_up = random(5, 300, dtype=torch.float32)[:, 7:207]
    result = activation.silu_mul(gate_up)
    assert relative_error(result, reference.silu_mul(gate_up.double())) < TOLERANCES[torch.float32]


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # the interpreter's own
def test_large_gates_neither_overflow_nor_vanish() -> None:
    gate_up = torch.tensor([[-200.0, 200.0, 0.0, 2.0, 3.0, 4.0]], device=DEVICE)
    assert activation.silu_mul(gate_up).tolist() == [[0.0, 600.0, 0.0]]


def test_nothing_to_do_is_fine() -> None:
    assert activation.silu_mul(torch.zeros(0, 64, device=DEVICE)).shape == (0, 32)


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="even number"):
        activation.silu_mul(torch.zeros(2, 7, device=DEVICE))
    with pytest.raises(ValueError, match="even number"):
        activation.silu_mul(torch.zeros(8, 8, device=DEVICE).T)
    with pytest.raises(ValueError, match="bfloat16, float16 or float32"):
        activation.silu_mul(torch.zeros(2, 8, dtype=torch.int32, device=DEVICE))
