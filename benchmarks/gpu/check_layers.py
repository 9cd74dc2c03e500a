"""Norms, activation, rotary with its write, sampling and linear layers against float64."""

from collections.abc import Callable, Iterator

import reference
import torch
from harness import Bench, Case, Row
from torch import Tensor

from octavo.kernels import quantised
from octavo.kernels.gpu import activation, linear, norm, rotary, sampling
from octavo.models.random_numbers import gumbel_noise

# ‖out − ref‖ / ‖ref‖. Results are rounded to the type once (1.7e-3 for bfloat16, 2e-4 for float16),
# those of silu_mul twice.
TOLERANCES = {torch.bfloat16: 2.5e-3, torch.float16: 3.5e-4, torch.float32: 2e-6}
# Packed weights are rounded to the type as well; sums go over thousands of inputs.
LINEAR_TOLERANCES = {torch.bfloat16: 4e-3, torch.float16: 5e-4, torch.float32: 5e-6}
FP8_TOLERANCE = 5e-3  # tensor cores add products of e4m3 up with fewer bits than float32 has
# A number that lies between two of e4m3 by less than float32's rounding may go to either.
E4M3_TOLERANCE = 5e-3
EPS = 1e-5


def cases(bench: Bench) -> Iterator[Case]:
    dtypes = list(TOLERANCES) if not bench.tiny else [torch.bfloat16, torch.float32]
    for dtype in dtypes:
        kind = str(dtype).removeprefix("torch.")
        yield Case(f"norm {kind}", lambda dtype=dtype: _norms(bench, dtype))
        yield Case(f"silu_mul {kind}", lambda dtype=dtype: _silu_mul(bench, dtype))
        yield Case(f"rotary {kind}", lambda dtype=dtype: _rotary(bench, dtype))
    yield Case("sampling", lambda: _sampling(bench))
    for dtype in dtypes:
        for name in ("int4", "int8", "fp8", "dense"):
            yield Case(f"linear {name} {dtype}", lambda d=dtype, n=name: [_linear(bench, n, d)])


def _worst(name: str, tolerance: float, errors: list[float]) -> Row:
    worst = max(errors)
    return {"case": name, "error": worst, "tolerance": tolerance, "pass": worst <= tolerance}


def _tolerance(bench: Bench, dtype: torch.dtype) -> float:
    return TOLERANCES[dtype] * reference.slack(dtype, bench.device)


def _name(family: str, dtype: torch.dtype) -> str:
    return f"{family} {str(dtype).removeprefix('torch.')}"


def _norms(bench: Bench, dtype: torch.dtype) -> list[Row]:
    plain, sums, fused = [], [], []
    for hidden in (64, 100) if bench.tiny else (64, 576, 1000, 4096, 5120, 8192, 16384):
        for tokens in (1, 5) if bench.tiny else (1, 3, 257):
            x, residual = (
                torch.randn(tokens, hidden, device=bench.device).to(dtype) * 3 for _ in range(2)
            )
            weight = torch.rand(hidden, device=bench.device).to(dtype) + 0.5
            rows = torch.randint(tokens, (3,), device=bench.device)
            with reference.poisoned_allocations():
                normed = norm.rms_norm(x, weight, EPS)
                both, total = norm.add_rms_norm(x, residual, weight, EPS)
                some, _ = norm.add_rms_norm(x, residual, weight, EPS, rows)
            expected = x.double() + residual.double()
            plain.append(reference.relative_error(normed, reference.rms_norm(x, weight, EPS)))
            sums.append(reference.relative_error(total, expected))
            after = reference.rms_norm(expected.to(dtype), weight, EPS)
            fused.append(reference.relative_error(both, after))
            fused.append(reference.relative_error(some, after[rows]))
    tolerance = _tolerance(bench, dtype)
    return [
        _worst(_name("rms_norm", dtype), tolerance, plain),
        _worst(_name("add_rms_norm sum", dtype), tolerance, sums),
        _worst(_name("add_rms_norm", dtype), tolerance, fused),
    ]


def _silu_mul(bench: Bench, dtype: torch.dtype) -> list[Row]:
    errors = []
    for width in (50, 96) if bench.tiny else (1, 576, 1536, 3001, 14336):
        for tokens in (3,) if bench.tiny else (1, 3, 500):
            gate_up = torch.randn(tokens, 2 * width, device=bench.device).to(dtype) * 3
            with reference.poisoned_allocations():
                result = activation.silu_mul(gate_up)
            errors.append(reference.relative_error(result, reference.silu_mul(gate_up)))
    return [_worst(_name("silu_mul", dtype), 1.5 * _tolerance(bench, dtype), errors)]


def _rotary(bench: Bench, dtype: torch.dtype) -> list[Row]:
    plain: list[float] = []
    fp8: list[float] = []
    sizes = ((32, 4, 2, 16),) if bench.tiny else (
        (64, 9, 3, 16), (80, 8, 8, 32), (96, 8, 2, 64), (128, 32, 8, 16), (256, 4, 1, 16),
    )  # fmt: skip
    for head_dim, heads, kv_heads, block in sizes:
        for norms in (False, True):
            for cache_dtype, errors in ((dtype, plain), (torch.float8_e4m3fn, fp8)):
                sides = (head_dim, heads, kv_heads, block)
                errors.append(_rotary_error(bench, dtype, cache_dtype, sides, norms))
    tolerance = _tolerance(bench, dtype)
    return [
        _worst(_name("rotary and write", dtype), tolerance, plain),
        _worst(_name("rotary, fp8 cache", dtype), max(E4M3_TOLERANCE, tolerance), fp8),
    ]


def _rotary_error(
    bench: Bench,
    dtype: torch.dtype,
    cache_dtype: torch.dtype,
    sides: tuple[int, int, int, int],
    norms: bool,
) -> float:
    """The worst of query, keys and values; infinite if a slot of no token was written."""
    head_dim, heads, kv_heads, block = sides
    device, tokens = bench.device, 5 if bench.tiny else 133
    num_blocks = tokens // block + 3
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * head_dim, device=device).to(dtype)
    angles = torch.rand(4096, head_dim // 2, device=device) * 6.3
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    positions = torch.randint(4096, (tokens,), device=device, dtype=torch.int32)
    order = torch.randperm((num_blocks - 1) * block, device=device)[:tokens]
    slots = (order + block).to(torch.int32)
    weights = [torch.rand(head_dim, device=device).to(dtype) + 0.5 for _ in range(2)]
    shape = (num_blocks, kv_heads, block, head_dim)
    nan = torch.full(shape, float("nan"), device=device).to(cache_dtype)
    keys, values = nan.clone(), nan.clone()
    is_fp8 = cache_dtype != dtype
    scales = {"k_scale": 0.5, "v_scale": 2.0} if is_fp8 else {}
    with reference.poisoned_allocations():
        query = rotary.rotate_and_write(
            qkv, positions, slots, cos, sin, keys, values,
            num_heads=heads, eps=EPS, **scales,
            q_norm=weights[0] if norms else None, k_norm=weights[1] if norms else None,
        )  # fmt: skip
    parts = qkv.double().unflatten(-1, (-1, head_dim)).split((heads, kv_heads, kv_heads), 1)
    given = list(parts)
    if norms:
        given[:2] = [reference.rms_norm(x, w, EPS) for x, w in zip(parts[:2], weights, strict=True)]
    at = positions.long()
    expected = [reference.rotate(x, cos[at], sin[at]) for x in given[:2]] + [given[2]]
    if is_fp8:
        for i, name in ((1, "k_scale"), (2, "v_scale")):
            limited = (expected[i] / scales[name]).clamp(-448, 448).float()
            expected[i] = limited.to(cache_dtype).double()
    blocks, offsets = slots.long() // block, slots.long() % block
    written = [cache.float()[blocks, :, offsets] for cache in (keys, values)]
    untouched = sum(int(cache.float().isfinite().sum()) for cache in (keys, values))
    if untouched != 2 * tokens * kv_heads * head_dim:
        return float("inf")
    pairs = zip((query, *written), expected, strict=True)
    return max(reference.relative_error(result, wanted) for result, wanted in pairs)


def _sampling(bench: Bench) -> list[Row]:
    device = bench.device
    rows, vocab = (6, 500) if bench.tiny else (96, 128_256)
    logits = torch.randn(rows, vocab, device=device) * 3
    settings = [
        {"temperature": t, "top_k": k, "top_p": p, "min_p": m}
        for t, k, p, m in (
            (0.0, 0, 1.0, 0.0),
            (1.0, 0, 1.0, 0.0),
            (0.7, 40, 1.0, 0.0),
            (1.3, 0, 0.9, 0.0),
            (0.9, 50, 0.8, 0.0),
            (1.0, 0, 1.0, 0.05),
        )
    ]
    chosen = [settings[row % len(settings)] for row in range(rows)]
    seeds = torch.randint(-(2**62), 2**62, (rows,))
    positions = torch.randint(1, 10_000, (rows,))

    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([row[name] for row in chosen], dtype=dtype, device=device)

    with reference.poisoned_allocations():
        drawn = sampling.sample_rows(
            logits,
            temperature=column("temperature", torch.float32),
            top_k=column("top_k", torch.int32),
            top_p=column("top_p", torch.float32),
            min_p=column("min_p", torch.float32),
            seeds=seeds.to(device),
            positions=positions.to(device),
        )
        logprobs = sampling.token_logprobs(logits, drawn)
    keys = list(zip(seeds.tolist(), positions.tolist(), strict=True))
    noise = gumbel_noise(keys, vocab, device)
    wrong = sum(
        not _is_draw(int(drawn[row]), logits[row], noise[row], chosen[row]) for row in range(rows)
    )
    expected = logits.double().log_softmax(-1).gather(1, drawn[:, None])[:, 0]
    error = reference.relative_error(logprobs, expected)
    return [
        _worst("rows drawn otherwise", 0.0, [wrong / rows]),
        _worst("log-probabilities", 2e-6, [error]),
        _worst("penalties", 2e-6, [_penalties_error(logits.clone())]),
    ]


def _is_draw(token: int, logits: Tensor, noise: Tensor, row: dict[str, float]) -> bool:
    """Whether this is the token, or so close to it that float32 may take either.

    A token at the edge of top_p may be in or out, so both sides of the edge are right.
    """
    edges = (row["top_p"],) if row["top_p"] == 1.0 else (row["top_p"] - 1e-4, row["top_p"] + 1e-4)
    for top_p in edges:
        scores = reference.draw_scores(
            logits, noise, temperature=row["temperature"], top_k=int(row["top_k"]),
            top_p=top_p, min_p=row["min_p"],
        )  # fmt: skip
        if float(scores[token]) >= float(scores.max()) - 1e-4:
            return True
    return False


def _penalties_error(logits: Tensor) -> float:
    rows, vocab = logits.shape
    width = min(300, vocab)
    ids = torch.stack([torch.randperm(vocab)[:width] for _ in range(rows)])
    ids = ids.to(logits.device, torch.int32)
    ids[:, -3:] = -1
    counts = torch.randint(0, 4, ids.shape, device=logits.device, dtype=torch.int32)
    repetition, frequency, presence = (
        torch.rand(rows, device=logits.device) + shift for shift in (1.0, 0.0, -0.5)
    )
    expected = logits.double()
    for row in range(rows):
        at, times = ids[row, :-3].long(), counts[row, :-3].double()
        x, factor = expected[row, at], repetition[row].double()
        x = torch.where(x > 0, x / factor, x * factor)
        less = frequency[row].double() * times + presence[row].double()
        expected[row, at] = torch.where(times > 0, x - less, x)
    sampling.apply_penalties(
        logits, ids, counts, repetition=repetition, frequency=frequency, presence=presence
    )
    return reference.relative_error(logits, expected)


def _linear(bench: Bench, kind: str, dtype: torch.dtype) -> Row:
    quantise: dict[str, Callable[[Tensor], quantised.QuantisedWeight]] = {
        "int4": quantised.quantise_int4,
        "int8": quantised.quantise_int8,
        "fp8": quantised.quantise_fp8,
    }
    inputs, outputs = (64, 48) if bench.tiny else (2080, 1000)
    errors = []
    for rows in (1, 17) if bench.tiny else (1, 2, 16, 17, 64, 65, 300):
        x = torch.randn(rows, inputs, device=bench.device).to(dtype)
        matrix = torch.randn(outputs, inputs, device=bench.device)
        bias = torch.randn(outputs, device=bench.device).to(dtype)
        with reference.poisoned_allocations():
            if kind == "dense":
                weight = matrix.to(dtype)
                result = linear.dense_linear_deterministic(x, weight, bias)
                expected = x.double() @ weight.double().T + bias.double()
            else:
                packed = quantise[kind](matrix)
                result = linear.quantised_linear(x, packed, bias)
                expected = _linear_reference(x, packed, bias)
        errors.append(reference.relative_error(result, expected))
    tolerance = LINEAR_TOLERANCES[dtype] * reference.slack(dtype, bench.device)
    if kind == "fp8":
        tolerance = max(FP8_TOLERANCE, tolerance)
    return _worst(_name(f"linear {kind}", dtype), tolerance, errors)


def _linear_reference(x: Tensor, packed: quantised.QuantisedWeight, bias: Tensor) -> Tensor:
    """Inputs are quantised for e4m3 weights where the kernel does so."""
    knows_e4m3 = not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 9)
    if isinstance(packed, quantised.Fp8Weight) and not knows_e4m3:
        return x.double() @ quantised.dense(packed).double().T + bias.double()
    return quantised.linear_reference(x.double(), packed, bias.double())
