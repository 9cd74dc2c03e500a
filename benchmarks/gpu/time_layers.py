"""Elementwise kernels, sampling and quantised layers against the memory floor of each."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from harness import Bench, Case, Row
from timing import num_sets, seconds_per_call
from torch import Tensor

from octavo.kernels import quantised
from octavo.kernels.gpu import activation, linear, norm, rotary, sampling

EPS = 1e-5
_VALUE_BYTES = 2  # of bfloat16


def cases(bench: Bench) -> Iterator[Case]:
    tokens, width = (8, 64) if bench.tiny else (4096, 4096)
    yield Case("rms_norm", lambda: [_norm(bench, tokens, width)])
    yield Case("add_rms_norm", lambda: [_add_norm(bench, tokens, width)])
    yield Case("silu_mul", lambda: [_silu_mul(bench, tokens, width)])
    yield Case("rotary and write", lambda: [_rotary(bench, tokens, False)])
    yield Case("rotary, norms, write", lambda: [_rotary(bench, tokens, True)])
    rows, vocab = (4, 500) if bench.tiny else (256, 128_256)
    for name, top_k, top_p in (("all", 0, 1.0), ("top_k 50", 50, 1.0), ("top_p 0.9", 0, 0.9)):
        yield Case(
            f"sampling {name}",
            lambda n=name, k=top_k, p=top_p: [_sample(bench, n, rows, vocab, k, p)],
        )
    if not bench.tiny:
        yield Case("sampling 1 row", lambda: [_sample(bench, "all", 1, vocab, 0, 1.0)])
    for kind in ("int4", "int8", "fp8"):
        for count in (1, 17) if bench.tiny else (1, 16, 64, 4096):
            yield Case(f"linear {kind} {count}", lambda k=kind, c=count: [_linear(bench, k, c)])


def _random(*shape: int, device: torch.device) -> Tensor:
    return torch.randn(shape, dtype=torch.bfloat16, device=device)


def _bandwidth_row(
    bench: Bench,
    name: str,
    num_bytes: float,
    make: Callable[[], Callable[[], Any]],
    target: str = "fused elementwise",
) -> Row:
    """Time calls that each move so many bytes, `make` giving one with inputs of its own."""
    calls = [make() for _ in range(num_sets(num_bytes, bench.device))]
    seconds = seconds_per_call(calls, bench.device)
    share = bench.copy_share(num_bytes, seconds)
    row: Row = {
        "case": name,
        "us": seconds * 1e6,
        "GB_per_s": num_bytes / seconds / 1e9,
        "of_copy": share,
    }
    return row | ({"target": target, "value": share} if target else {})


def _norm(bench: Bench, tokens: int, width: int) -> Row:
    weight = _random(width, device=bench.device)

    def make() -> Callable[[], Any]:
        x = _random(tokens, width, device=bench.device)
        return lambda: norm.rms_norm(x, weight, EPS)

    num_bytes = 2 * tokens * width * _VALUE_BYTES
    return _bandwidth_row(bench, f"rms_norm {tokens} x {width}", num_bytes, make)


def _add_norm(bench: Bench, tokens: int, width: int) -> Row:
    weight = _random(width, device=bench.device)

    def make() -> Callable[[], Any]:
        x, residual = (_random(tokens, width, device=bench.device) for _ in range(2))
        return lambda: norm.add_rms_norm(x, residual, weight, EPS)

    num_bytes = 4 * tokens * width * _VALUE_BYTES
    return _bandwidth_row(bench, f"add_rms_norm {tokens} x {width}", num_bytes, make)


def _silu_mul(bench: Bench, tokens: int, width: int) -> Row:
    def make() -> Callable[[], Any]:
        gate_up = _random(tokens, 2 * width, device=bench.device)
        return lambda: activation.silu_mul(gate_up)

    num_bytes = 3 * tokens * width * _VALUE_BYTES
    return _bandwidth_row(bench, f"silu_mul {tokens} x {width}", num_bytes, make)


def _rotary(bench: Bench, tokens: int, norms: bool) -> Row:
    """32 query and 8 KV heads of 128: read qkv, write the query, keys and values."""
    heads, kv_heads, head_dim, block = (4, 2, 32, 16) if bench.tiny else (32, 8, 128, 16)
    device, width = bench.device, (heads + 2 * kv_heads) * head_dim
    angles = torch.rand(tokens, head_dim // 2, device=device)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    positions = torch.arange(tokens, dtype=torch.int32, device=device)
    weight = _random(head_dim, device=device) if norms else None
    shape = (-(-tokens // block) + 1, kv_heads, block, head_dim)

    def make() -> Callable[[], Any]:
        qkv = _random(tokens, width, device=device)
        keys, values = (_random(*shape, device=device) for _ in range(2))
        blocks = torch.randperm(shape[0] - 1, device=device) + 1
        slots = blocks.repeat_interleave(block)[:tokens] * block + positions % block
        slots = slots.to(torch.int32)
        return lambda: rotary.rotate_and_write(
            qkv, positions, slots, cos, sin, keys, values,
            num_heads=heads, q_norm=weight, k_norm=weight, eps=EPS,
        )  # fmt: skip

    name = f"rotary{', norms' if norms else ''} and write {tokens} x {width}"
    return _bandwidth_row(bench, name, 2 * tokens * width * _VALUE_BYTES, make)


def _sample(bench: Bench, name: str, rows: int, vocab: int, top_k: int, top_p: float) -> Row:
    """Over one reading of the logits."""
    device = bench.device
    seeds = torch.randint(2**62, (rows,), device=device)
    settings = {
        "temperature": torch.ones(rows, device=device),
        "top_k": torch.full((rows,), top_k, dtype=torch.int32, device=device),
        "top_p": torch.full((rows,), top_p, device=device),
        "min_p": torch.zeros(rows, device=device),
        "seeds": seeds,
        "positions": seeds,
    }

    def make() -> Callable[[], Any]:
        logits = torch.randn(rows, vocab, device=device) * 3
        return lambda: sampling.sample_rows(logits, **settings)

    return _bandwidth_row(bench, f"sample {rows} x {vocab}, {name}", rows * vocab * 4.0, make, "")


def _linear(bench: Bench, kind: str, rows: int) -> Row:
    """A layer of Llama-3.1-8B's MLP, beside torch's product with the bfloat16 weight."""
    inputs, outputs = (64, 96) if bench.tiny else (4096, 28_672)
    quantise: dict[str, Callable[[Tensor], Any]] = {
        "int4": quantised.quantise_int4,
        "int8": quantised.quantise_int8,
        "fp8": quantised.quantise_fp8,
    }
    device = bench.device
    dense = [_random(outputs, inputs, device=device) for _ in range(2)]
    packed = [quantise[kind](dense[i % 2]) for i in range(num_sets(outputs * inputs / 2, device))]
    x = _random(rows, inputs, device=device)
    seconds = seconds_per_call([lambda w=w: linear.quantised_linear(x, w) for w in packed], device)
    torch_seconds = seconds_per_call([lambda w=w: F.linear(x, w) for w in dense], device)
    per_weight = {"int4": 0.5 + 4 / 32, "int8": 1 + 2 / 32, "fp8": 1.0}[kind]
    num_bytes = outputs * inputs * per_weight + (outputs + inputs) * rows * _VALUE_BYTES
    return {
        "case": f"linear {kind}, {rows} rows",
        "us": seconds * 1e6,
        "GB_per_s": num_bytes / seconds / 1e9,
        "of_copy": bench.copy_share(num_bytes, seconds),
        "of_matmul": bench.matmul_share(2 * rows * outputs * inputs, seconds),
        "vs_torch_bf16": torch_seconds / seconds,
    }
