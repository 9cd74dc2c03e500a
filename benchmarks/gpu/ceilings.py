"""The two ceilings that all figures are shares of: measured, not a datasheet's."""

from collections.abc import Iterator

import torch
from harness import Bench, Case, Row
from timing import seconds_per_call


def cases(bench: Bench) -> Iterator[Case]:
    yield Case("device copy", lambda: [_copy(bench)])
    yield Case("bf16 matrix product", lambda: [_matmul(bench)])


def _copy(bench: Bench) -> Row:
    """Bytes read plus bytes written a second, between buffers far larger than the L2 cache."""
    num_bytes = 2**16 if bench.tiny else 2**30
    pairs = [
        tuple(torch.randint(256, (num_bytes,), dtype=torch.uint8, device=bench.device)
              for _ in range(2))
        for _ in range(2)
    ]  # fmt: skip
    seconds = seconds_per_call(
        [lambda source=a, target=b: target.copy_(source) for a, b in pairs], bench.device
    )
    bench.copy_bytes_per_s = 2 * num_bytes / seconds
    return {"case": f"copy {num_bytes >> 20} MiB", "TB_per_s": bench.copy_bytes_per_s / 1e12}


def _matmul(bench: Bench) -> Row:
    size = 128 if bench.tiny else 8192
    sets = [
        [torch.randn(size, size, device=bench.device).bfloat16() for _ in range(2)]
        for _ in range(2)
    ]
    seconds = seconds_per_call([lambda a=a, b=b: a @ b for a, b in sets], bench.device)
    bench.matmul_flops = 2 * size**3 / seconds
    return {"case": f"bf16 {size}^3", "TFLOP_per_s": bench.matmul_flops / 1e12}
