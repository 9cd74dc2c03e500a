"""What each kernel should give, in float64, from the inputs exactly as the kernel gets them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from paged_inputs import PagedInputs
from torch import Tensor


@contextmanager
def poisoned_allocations() -> Iterator[None]:
    """New tensors hold NaN (or the largest integer) until something writes them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def relative_error(result: Tensor, expected: Tensor) -> float:
    """‖result − expected‖ / ‖expected‖; infinite if there is a NaN or the shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    wide = result.to(torch.float64)
    error = (wide - expected).norm() / expected.norm().clamp(min=1e-300)
    return float(error) if bool(torch.isfinite(wide).all()) else float("inf")


def slack(dtype: torch.dtype, device: torch.device) -> float:
    """What tolerances are multiplied by.

    Triton's interpreter truncates to bfloat16: each time twice the error of rounding, and always to
    the same side, so that errors add up.
    """
    return 4.0 if dtype == torch.bfloat16 and device.type == "cpu" else 1.0


def attention(
    inputs: PagedInputs,
    *,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
) -> Tensor:
    """One sequence after the other: [tokens, heads, head_dim]."""
    shape = inputs.shape
    group = shape.num_heads // shape.num_kv_heads
    results, first = [], 0
    for row, (length, context) in enumerate(zip(shape.lengths, shape.contexts, strict=True)):
        blocks = inputs.tables[row, : -(-context // shape.block_size)].long()
        keys, values = (
            cache.double()[blocks].transpose(0, 1).flatten(1, 2)[:, :context] * factor
            for cache, factor in ((inputs.keys, k_scale), (inputs.values, v_scale))
        )  # [kv_heads, context, head_dim]
        query = inputs.query[first : first + length].double().transpose(0, 1)
        query = query.unflatten(0, (shape.num_kv_heads, group))
        scores = query @ keys[:, None].transpose(-1, -2) * scale  # [kv_heads, group, length, keys]
        if soft_cap > 0.0:
            scores = (scores / soft_cap).tanh() * soft_cap
        positions = torch.arange(context - length, context, device=scores.device)[:, None]
        at = torch.arange(context, device=scores.device)[None, :]
        hidden = at > positions
        if window > 0:
            hidden |= at <= positions - window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        results.append((weights @ values[:, None]).flatten(0, 1).transpose(0, 1))
        first += length
    return torch.cat(results)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Over the last dimension."""
    wide = x.double()
    return wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.double()


def silu_mul(gate_up: Tensor) -> Tensor:
    """[tokens, 2 * width] to [tokens, width]."""
    gate, up = gate_up.double().chunk(2, -1)
    return gate / (1.0 + (-gate).exp()) * up


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """heads [tokens, heads, head_dim] in float64; cos and sin [tokens, head_dim / 2]."""
    low, high = heads.chunk(2, -1)
    cos, sin = cos.double()[:, None], sin.double()[:, None]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


def draw_scores(
    logits: Tensor,
    noise: Tensor,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
) -> Tensor:
    """Of one row [vocab]: what the token drawn is the argmax of, -inf where truncated."""
    if temperature == 0.0:
        return logits.double()
    line = logits.double() / temperature
    if min_p > 0.0:
        line = line.masked_fill(line < line.max() + torch.tensor(min_p).double().log(), -torch.inf)
    if 0 < top_k < len(line):
        line = line.masked_fill(line < line.topk(top_k).values[-1], -torch.inf)
    if top_p < 1.0:
        best, order = line.sort(descending=True)
        shares = best.softmax(-1)
        outside = shares.cumsum(-1) - shares >= top_p
        line = line.scatter(0, order, best.masked_fill(outside, -torch.inf))
    return line + noise.double()
