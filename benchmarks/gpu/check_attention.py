"""Attention against float64: decode, prefill and mixed steps over sizes, types and features."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import reference
import torch
from harness import Bench, Case, Row
from paged_inputs import PagedShape, paged_inputs

from octavo.kernels.gpu.attention import attend

# Weights of the softmax and results are rounded to the query's type, each with an error of 1.7e-3
# for bfloat16 and 2e-4 for float16, 2.4e-3 and 3e-4 together; two thirds as much again is room.
TOLERANCES = {torch.bfloat16: 4e-3, torch.float16: 5e-4, torch.float32: 5e-6}

_BASE = PagedShape(
    lengths=(1,),
    contexts=(1,),
    num_heads=8,
    num_kv_heads=2,
    head_dim=128,
    block_size=16,
    dtype=torch.bfloat16,
    cache_dtype=torch.bfloat16,
)


@dataclass(frozen=True)
class Check:
    """One point of the grid."""

    name: str
    shape: PagedShape
    window: int = 0
    soft_cap: float = 0.0
    split_tokens: int = 0
    num_decodes: int | None = None  # all

    @property
    def scales(self) -> dict[str, float]:
        """Factors of a float8 cache."""
        return {"k_scale": 0.5, "v_scale": 2.0} if self.shape.cache_dtype.itemsize == 1 else {}


def cases(bench: Bench) -> Iterator[Case]:
    for check in [*_decodes(bench.tiny), *_prefills(bench.tiny)]:
        yield Case(check.name, lambda check=check: [_row(check, bench)])


def _decodes(tiny: bool) -> list[Check]:
    contexts = (1, 17, 70) if tiny else (1, 15, 16, 17, 63, 64, 65, 1023, 1024, 2065, 9001)
    base = replace(_BASE, lengths=(1,) * len(contexts), contexts=contexts)
    fp8 = replace(base, cache_dtype=torch.float8_e4m3fn)
    checks = [
        Check("decode bf16", base),
        Check("decode fp8 cache", fp8),
        Check("decode window", base, window=33),
        Check("decode soft cap", base, soft_cap=5.0),
        Check("decode fixed splits", base, split_tokens=64 if tiny else 512),
        Check("decode fp32", _of_type(base, torch.float32)),
    ]
    if tiny:
        return checks
    return [
        *checks,
        Check("decode fp16", _of_type(base, torch.float16)),
        *(Check(f"decode head {d}", replace(base, head_dim=d)) for d in (64, 80, 96, 256)),
        *(Check(f"decode block {b}", replace(base, block_size=b)) for b in (32, 64)),
        *(Check(f"decode group {g}", replace(base, num_heads=2 * g)) for g in (1, 7, 8, 16)),
        Check("decode fp8 window cap", fp8, window=1000, soft_cap=30.0),
        Check("decode lone 40k", replace(base, lengths=(1,), contexts=(40_001,))),
        Check("decode batch 300", replace(base, lengths=(1,) * 300, contexts=(130,) * 300)),
    ]


def _prefills(tiny: bool) -> list[Check]:
    lengths = (5, 1, 40) if tiny else (300, 1, 64, 17, 129, 1)
    contexts = (5, 9, 50) if tiny else (300, 513, 64, 2048, 1000, 1)
    base = replace(_BASE, lengths=lengths, contexts=contexts)
    fp8 = replace(base, cache_dtype=torch.float8_e4m3fn)
    checks = [
        Check("prefill bf16", base, num_decodes=0),
        Check("prefill fp8 cache", fp8, num_decodes=0),
        Check("prefill window cap", base, window=20, soft_cap=5.0, num_decodes=0),
        Check("prefill deterministic", base, split_tokens=64, num_decodes=0),
    ]
    if tiny:
        return checks
    mixed = replace(base, lengths=(1, 1, 1, 500, 33), contexts=(5000, 70, 9000, 700, 33))
    return [
        *checks,
        Check("prefill fp16", _of_type(base, torch.float16), num_decodes=0),
        Check("prefill fp32", _of_type(base, torch.float32), num_decodes=0),
        *(
            Check(f"prefill head {d}", replace(base, head_dim=d), num_decodes=0)
            for d in (64, 80, 96, 256)
        ),
        *(
            Check(f"prefill block {b}", replace(base, block_size=b), num_decodes=0)
            for b in (32, 64)
        ),
        *(
            Check(f"prefill group {g}", replace(base, num_heads=2 * g), num_decodes=0)
            for g in (1, 7, 8)
        ),
        Check("mixed, long decodes", mixed, num_decodes=3),
        Check("mixed, one launch", replace(mixed, contexts=(500, 70, 900, 700, 33)), num_decodes=3),
    ]


def _of_type(shape: PagedShape, dtype: torch.dtype) -> PagedShape:
    return replace(shape, dtype=dtype, cache_dtype=dtype)


def _row(check: Check, bench: Bench) -> Row:
    shape = check.shape
    inputs = paged_inputs(
        shape,
        bench.device,
        num_decodes=len(shape.lengths) if check.num_decodes is None else check.num_decodes,
        split_tokens=check.split_tokens,
        poison=True,
    )
    options = {
        "scale": shape.head_dim**-0.5,
        "window": check.window,
        "soft_cap": check.soft_cap,
        **check.scales,
    }
    with reference.poisoned_allocations():
        out = torch.full_like(inputs.query, float("nan"))
        attend(inputs.query, inputs.keys, inputs.values, inputs.plan, out=out, **options)
    error = reference.relative_error(out, reference.attention(inputs, **options))
    tolerance = TOLERANCES[shape.dtype] * reference.slack(shape.dtype, bench.device)
    return {"case": check.name, "error": error, "tolerance": tolerance, "pass": error <= tolerance}
