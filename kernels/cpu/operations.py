"""A decoder's operations by the native kernels, in float32 whatever the weights are.

The functions are named as in `Operations`; keys lie transposed in their blocks (native/octavo.h),
which nobody else needs to know. Each result is a function of its token's own sequence alone: no
order of additions depends on the batch. So this path is always deterministic.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..operations import Angles, LinearWeight
from ..quantised import Fp8Weight, dense
from . import library as native
from .library import (
    CacheStruct,
    DrawStruct,
    KernelsStruct,
    LayerStruct,
    Library,
    PlanStruct,
)
from .weights import PackedWeight, pack

_KV_KINDS = {torch.float32: native.FLOAT32, torch.bfloat16: native.BFLOAT16}


class DrawRule(NamedTuple):
    """How a row of logits draws its token; at temperature 0 it is the most likely one.

    `key` is the row's 64-bit key of random numbers; a top_k of 0 keeps all.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    key: int


@dataclass(frozen=True, slots=True)
class NativePlan:
    """A step's sequences as C reads them: spans [seqs, 4] (span_t) and block tables, both int64."""

    spans: NDArray[np.int64]
    tables: NDArray[np.int64]
    longest: int  # context

    def struct(self) -> PlanStruct:
        """What C reads. It borrows the arrays."""
        return PlanStruct(
            self.spans.ctypes.data, self.tables.ctypes.data, len(self.spans), self.tables.shape[1]
        )


class NativeOperations:
    """Operations by one variant of the library.

    A decoder's layers run in one call (`kernels.forward`); the single operations are how tests see
    each part of it.
    """

    def __init__(self, library: Library, kernels: KernelsStruct) -> None:
        self.library = library
        self.kernels = kernels

    def prepare(self, weight: LinearWeight) -> PackedWeight:
        """Lay a linear layer's weights out for the kernels."""
        return pack(self.library, dense(weight) if isinstance(weight, Fp8Weight) else weight)

    def plan(
        self, spans: NDArray[np.int64], tables: NDArray[np.int64], block_size: int
    ) -> NativePlan:
        """What `attend` must know of a step: its sequences' spans [seqs, 4] and block tables."""
        spans, tables = np.ascontiguousarray(spans), np.ascontiguousarray(tables)
        if spans.dtype != np.int64 or tables.dtype != np.int64:
            raise ValueError(f"spans and tables must be int64, got {spans.dtype}, {tables.dtype}")
        longest = int(spans[:, 3].max())
        if tables.shape[1] * block_size < longest or int(spans[:, 0].max()) >= len(tables):
            raise ValueError(f"block tables {tables.shape} do not cover {spans.tolist()}")
        return NativePlan(spans, tables, longest)

    def look_up_angles(self, cos: Tensor, sin: Tensor, positions: Tensor) -> Angles:
        """The tables as they are: the kernel looks up."""
        return Angles(_float32(cos, "cos"), _float32(sin, "sin"), positions)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """x [tokens, inputs] @ weight [outputs, inputs].T + bias [outputs]."""
        tokens, inputs = x.shape
        if inputs != weight.shape[1]:
            raise ValueError(f"x is {list(x.shape)}, the weight {list(weight.shape)}")
        x = _float32(x, "x")
        bias = None if bias is None else _float32(bias, "bias")
        result = torch.empty(tokens, weight.shape[0])
        scratch = torch.empty(self.library.linear_bytes(tokens, inputs), dtype=torch.uint8)
        self.kernels.linear(
            x.data_ptr(), weight.struct(bias), tokens, result.data_ptr(), scratch.data_ptr()
        )
        return result

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / rms(x) * weight over the last dimension."""
        x, weight = _float32(x, "x"), _float32(weight, "weight")
        if weight.shape != x.shape[-1:]:
            raise ValueError(f"x is {list(x.shape)}, the weight {list(weight.shape)}")
        result = torch.empty_like(x)
        self.kernels.add_rms_norm(
            None,
            *(x.data_ptr(), weight.data_ptr(), eps, x.numel() // x.shape[-1], x.shape[-1]),
            result.data_ptr(),
        )
        return result

    def add_rms_norm(
        self,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        eps: float,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual), of the given rows only if there are some."""
        if rows is not None:
            x, residual = x[rows], residual[rows]
        total = _float32(residual, "residual").clone()
        x, weight = _float32(x, "x"), _float32(weight, "weight")
        if x.shape != total.shape or weight.shape != x.shape[-1:]:
            raise ValueError(f"{list(x.shape)}, {list(total.shape)} and {list(weight.shape)}")
        result = torch.empty_like(total)
        self.kernels.add_rms_norm(
            *(x.data_ptr(), total.data_ptr(), weight.data_ptr(), eps),
            *(x.numel() // x.shape[-1], x.shape[-1], result.data_ptr()),
        )
        return result, total

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up for [tokens, 2 * width] that holds gate and up side by side."""
        gate_up = _float32(gate_up, "gate_up")
        tokens, width = gate_up.shape[0], gate_up.shape[1] // 2
        result = torch.empty(tokens, width)
        self.kernels.silu_mul(gate_up.data_ptr(), tokens, width, result.data_ptr())
        return result

    def rotate_and_write(
        self,
        qkv: Tensor,
        angles: Angles,
        slots: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        *,
        num_heads: int,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        eps: float,
    ) -> Tensor:
        """See `torch_operations.rotate_and_write`; the query is a view of qkv, changed in place."""
        kv_heads, _, width = key_cache.shape[1:]
        qkv, positions = _float32(qkv, "qkv"), angles.positions
        assert positions is not None
        layer = LayerStruct(cache=cache_struct(key_cache, value_cache))
        if q_norm is not None and k_norm is not None:
            q_norm, k_norm = _float32(q_norm, "q_norm"), _float32(k_norm, "k_norm")
            layer.q_norm, layer.k_norm = q_norm.data_ptr(), k_norm.data_ptr()
        _check_indices(slots, "slots", len(qkv))
        _check_indices(positions, "positions", len(qkv))
        self.kernels.rotate_and_write(
            *(qkv.data_ptr(), angles.cos.data_ptr(), angles.sin.data_ptr()),
            *(positions.data_ptr(), slots.data_ptr(), layer),
            *(len(qkv), num_heads, kv_heads, width, eps),
        )
        query: Tensor = qkv.unflatten(-1, (-1, width))[:, :num_heads]
        return query

    def attend(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        plan: NativePlan,
        *,
        scale: float,
        window: int,
    ) -> Tensor:
        """Attention of query [tokens, heads, head_dim] over the blocks that `plan` names."""
        tokens, heads, width = query.shape
        kv_heads = key_cache.shape[1]
        if query.dtype != torch.float32 or query.stride()[1:] != (width, 1):
            raise ValueError(f"query must be float32 with whole heads, got {query.dtype}")
        scratch = torch.empty(
            self.library.attention_bytes(len(plan.spans), plan.longest, heads, kv_heads, width),
            dtype=torch.uint8,
        )
        result = torch.empty(tokens, heads, width)
        self.kernels.attend(
            *(query.data_ptr(), query.stride(0), plan.struct()),
            *(cache_struct(key_cache, value_cache), window, heads, kv_heads, width, scale),
            *(result.data_ptr(), scratch.data_ptr()),
        )
        return result

    def forbid(self, logits: Tensor, rows: Tensor, words: Tensor) -> None:
        """-infinity, in these rows of logits [.., vocab], for every token whose bit is clear.

        `rows` int64 [count]; `words` int32 [count, vocab / 32, rounded up], 32 tokens to a word.
        """
        _check_indices(rows, "rows", len(words))
        vocab, num_words = logits.shape[1], words.shape[1]
        if not logits.is_contiguous() or _float32(logits, "logits") is not logits:
            raise ValueError("logits must be contiguous: they are changed in place")
        if words.dtype != torch.int32 or not words.is_contiguous() or num_words != -(-vocab // 32):
            raise ValueError(f"words must be contiguous int32 [rows, {-(-vocab // 32)}]")
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(logits):
            raise ValueError(f"rows must be within the {len(logits)} rows of logits")
        self.library.forbid(
            *(rows.data_ptr(), words.data_ptr(), len(rows), num_words, vocab, logits.data_ptr())
        )

    def draw(self, logits: Tensor, rules: Sequence[DrawRule]) -> Tensor:
        """One token of each row of logits [rows, vocab]: int64 [rows].

        Restricted to min_p, then top_k, then top_p; a draw adds Gumbel noise, a function of the
        rule's key and the token's id.
        """
        rows, vocab = logits.shape
        if len(rules) != rows:
            raise ValueError(f"{len(rules)} rules for {rows} rows of logits")
        logits = _float32(logits, "logits")
        structs = (DrawStruct * rows)(
            *(
                DrawStruct(
                    0.0 if rule.temperature == 0.0 else 1.0 / rule.temperature,
                    *(rule.min_p, rule.top_p, rule.top_k),
                    *(rule.key & 0xFFFFFFFF, rule.key >> 32),
                )
                for rule in rules
            )
        )
        tokens = torch.empty(rows, dtype=torch.int64)
        self.kernels.draw(
            logits.data_ptr(),
            ctypes.cast(structs, ctypes.POINTER(DrawStruct)),
            *(rows, vocab, tokens.data_ptr()),
        )
        return tokens


def cache_struct(keys: Tensor, values: Tensor) -> CacheStruct:
    """What C reads of a layer's cache; both [blocks, kv_heads, block_size, head_dim] by shape.

    The memory of `keys` holds each head of a block as [head_dim, block_size].
    """
    if keys.dtype not in _KV_KINDS or not keys.is_contiguous() or not values.is_contiguous():
        raise ValueError(f"the KV cache must be contiguous float32 or bfloat16, got {keys.dtype}")
    return CacheStruct(keys.data_ptr(), values.data_ptr(), keys.shape[2], _KV_KINDS[keys.dtype])


def _float32(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ValueError(f"{name} must be float32 on the CPU, got {tensor.dtype} {tensor.device}")
    return tensor.contiguous()


def _check_indices(indices: Tensor, name: str, count: int) -> None:
    if indices.dtype != torch.int64 or indices.shape != (count,) or not indices.is_contiguous():
        raise ValueError(f"{name} must be contiguous int64 [{count}], got {indices.dtype}")


def open_operations(variant: str | None = None) -> NativeOperations | None:
    """The best variant that this processor runs, or the one named; None without the library."""
    library = native.open_library()
    if library is None:
        return None
    for name in native.VARIANTS if variant is None else (variant,):
        kernels = library.kernels(name)
        if kernels is not None:
            return NativeOperations(library, kernels)
    return None
