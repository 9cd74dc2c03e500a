"""Attention against its floors, and beside other implementations of the same problem.

Decode is bound by memory: the bytes are all keys and values once, queries and results. Prefill is
bound by arithmetic: the operations are those of visible pairs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from harness import Bench, Case, Row
from paged_inputs import PagedInputs, PagedShape, paged_inputs
from timing import num_sets, seconds_per_call
from torch import Tensor

from octavo.kernels.gpu.attention import attend

FP8 = torch.float8_e4m3fn


def cases(bench: Bench) -> Iterator[Case]:
    for name, batch, context, heads, cache_dtype, target in _decodes(bench):
        shape = _shape((1,) * batch, (context,) * batch, heads, bench, cache_dtype)
        yield Case(name, lambda n=name, s=shape, t=target: [_decode(bench, n, s, t)])
    for name, lengths, contexts, target in _prefills(bench):
        shape = _shape(lengths, contexts, 4, bench, torch.bfloat16)
        yield Case(name, lambda n=name, s=shape, t=target: [_prefill(bench, n, s, t)])


def _shape(
    lengths: tuple[int, ...], contexts: tuple[int, ...], group: int, bench: Bench, cache: Any
) -> PagedShape:
    kv_heads, head_dim = (2, 32) if bench.tiny else (8, 128)
    return PagedShape(
        lengths, contexts, group * kv_heads, kv_heads, head_dim, 16, torch.bfloat16, cache
    )


def _decodes(bench: Bench) -> list[tuple[str, int, int, int, torch.dtype, str]]:
    """Name, batch, context, query heads for each KV head, type of the cache, target."""
    model = torch.bfloat16
    if bench.tiny:
        return [
            ("decode 2 x 40, 8:1", 2, 40, 8, model, "decode attention"),
            ("decode 1 x 70, 4:1", 1, 70, 4, model, "decode attention, lone"),
        ]
    chosen = [
        (f"decode {batch} x {context // 1024}k, {group}:1", batch, context, group, model, target)
        for batch, context, target in (
            (64, 1024, "decode attention"),
            (16, 4096, "decode attention"),
            (256, 1024, "decode attention"),
            (32, 4096, "decode attention"),
            (8, 16384, "decode attention"),
            (1, 32768, "decode attention, lone"),
        )
        for group in (4, 8)
    ]
    chosen += [
        ("decode 64 x 2k, 4:1, fp8", 64, 2048, 4, FP8, ""),
        ("decode 1 x 4k, 4:1", 1, 4096, 4, model, ""),
        ("decode 8 x 512, 4:1", 8, 512, 4, model, ""),
    ]
    return chosen[:6] + chosen[10:12] if bench.quick else chosen


def _prefills(bench: Bench) -> list[tuple[str, tuple[int, ...], tuple[int, ...], str]]:
    """Name, new tokens, contexts, target."""
    if bench.tiny:
        return [("prefill 40", (40,), (40,), "prefill attention")]
    chosen = [
        ("prefill 1 x 4k", (4096,), (4096,), "prefill attention"),
        ("prefill 4 x 2k", (2048,) * 4, (2048,) * 4, "prefill attention"),
        ("prefill 1 x 16k", (16384,), (16384,), "prefill attention"),
        ("prefill chunk 2k of 16k", (2048,), (16384,), ""),
        ("mixed 64 x 1k + chunk 2k", (1,) * 64 + (2048,), (1024,) * 64 + (4096,), ""),
    ]
    return chosen[:2] if bench.quick else chosen


def _ours(bench: Bench, shape: PagedShape) -> tuple[float, list[PagedInputs]]:
    bench.require_bytes(4 * shape.kv_bytes)
    num_decodes = next((i for i, n in enumerate(shape.lengths) if n > 1), len(shape.lengths))
    sets = [
        paged_inputs(shape, bench.device, num_decodes=num_decodes)
        for _ in range(num_sets(shape.kv_bytes + shape.io_bytes, bench.device))
    ]
    scale = shape.head_dim**-0.5
    outs = [torch.empty_like(inputs.query) for inputs in sets]
    calls = [
        lambda s=s, out=out: attend(s.query, s.keys, s.values, s.plan, scale=scale, out=out)
        for s, out in zip(sets, outs, strict=True)
    ]
    return seconds_per_call(calls, bench.device), sets


def _decode(bench: Bench, name: str, shape: PagedShape, target: str) -> Row:
    seconds, sets = _ours(bench, shape)
    num_bytes = shape.kv_bytes + shape.io_bytes
    share = bench.copy_share(num_bytes, seconds)
    row: Row = {
        "case": name,
        "us": seconds * 1e6,
        "GB_per_s": num_bytes / seconds / 1e9,
        "of_copy": share,
    }
    if shape.cache_dtype == torch.bfloat16:
        row |= _peers(bench, sets, seconds)
    return row | ({"target": target, "value": share} if target else {})


def _prefill(bench: Bench, name: str, shape: PagedShape, target: str) -> Row:
    seconds, sets = _ours(bench, shape)
    row: Row = {
        "case": name,
        "us": seconds * 1e6,
        "TFLOP_per_s": shape.num_operations / seconds / 1e12,
        "of_matmul": bench.matmul_share(shape.num_operations, seconds),
    }
    if shape.lengths == shape.contexts and len(set(shape.lengths)) == 1:
        row |= _peers(bench, sets, seconds)
    if target and "vs_flash" in row:
        row |= {"target": target, "value": row["vs_flash"]}
    return row


def _peers(bench: Bench, sets: list[PagedInputs], seconds: float) -> Row:
    """Their time over ours on the same keys and values: above 1 we are faster."""
    row: Row = {}
    dense = [_contiguous(inputs) for inputs in sets]
    for name, call in _peer_calls(bench, sets[0].shape):
        try:
            calls = [
                lambda inputs=inputs, tensors=tensors, call=call: call(inputs, *tensors)
                for inputs, tensors in zip(sets, dense, strict=True)
            ]
            row[name] = seconds_per_call(calls, bench.device) / seconds
        except Exception as error:
            row[f"{name}_error"] = f"{type(error).__name__}: {str(error).strip()[:120]}"
    return row


def _contiguous(inputs: PagedInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Query [seqs, heads, length, head_dim]; keys, values [seqs, kv_heads, context, head_dim]."""
    shape = inputs.shape
    num_seqs, context = len(shape.lengths), shape.contexts[0]
    query = inputs.query.unflatten(0, (num_seqs, -1)).transpose(1, 2).contiguous()
    keys, values = (
        cache[inputs.tables.long()].transpose(1, 2).flatten(2, 3)[:, :, :context].contiguous()
        for cache in (inputs.keys, inputs.values)
    )
    return query, keys, values


PeerCall = Callable[[PagedInputs, Tensor, Tensor, Tensor], Any]


def _peer_calls(bench: Bench, shape: PagedShape) -> Iterator[tuple[str, PeerCall]]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    causal = shape.lengths[0] > 1

    def sdpa(backend: SDPBackend) -> PeerCall:
        def call(_: PagedInputs, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            with sdpa_kernel([backend]):
                return F.scaled_dot_product_attention(
                    query, keys, values, is_causal=causal, enable_gqa=True
                )

        return call

    if not bench.on_gpu:
        yield "vs_flash", sdpa(SDPBackend.MATH)
        return
    yield "vs_flash", sdpa(SDPBackend.FLASH_ATTENTION)
    yield "vs_cudnn", sdpa(SDPBackend.CUDNN_ATTENTION)
    # Each of its shapes takes many seconds to compile, so one prefill and one decode.
    chosen = len(shape.lengths) == (1 if causal else 32) and shape.num_heads == 32
    if not bench.quick and chosen and shape.contexts[0] == 4096:
        yield "vs_flex", _flex(shape)
    if not causal:
        try:
            import flashinfer
        except ImportError:
            return
        yield "vs_flashinfer", _flashinfer_decode(flashinfer, bench)


def _flex(shape: PagedShape) -> PeerCall:
    """flex_attention, compiled; decode sees all keys, prefill a causal block mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)
    mask = None
    if shape.lengths[0] > 1:
        length = shape.lengths[0]
        mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, length, length)

    def call(_: PagedInputs, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return compiled(query, keys, values, block_mask=mask, enable_gqa=True)

    return call


def _flashinfer_decode(flashinfer: Any, bench: Bench) -> PeerCall:
    """Its paged decode over the same blocks, planned once for each set of inputs."""
    planned: dict[int, Any] = {}

    def plan(inputs: PagedInputs) -> Any:
        shape = inputs.shape
        counts = [-(-context // shape.block_size) for context in shape.contexts]
        starts = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
        used = torch.cat([inputs.tables[i, :count] for i, count in enumerate(counts)])
        last = [c - (n - 1) * shape.block_size for c, n in zip(shape.contexts, counts, strict=True)]
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.empty(256 * 2**20, dtype=torch.uint8, device=bench.device),
            "HND",
            use_tensor_cores=True,
        )
        wrapper.plan(
            starts.to(bench.device), used, torch.tensor(last, dtype=torch.int32).to(bench.device),
            shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.block_size,
            q_data_type=shape.dtype, kv_data_type=shape.cache_dtype,
        )  # fmt: skip
        return wrapper

    def call(inputs: PagedInputs, *_: Tensor) -> Any:
        if id(inputs) not in planned:
            planned[id(inputs)] = plan(inputs)
        return planned[id(inputs)].run(inputs.query, (inputs.keys, inputs.values))

    return call
