"""The decoder on a CPU with native kernels: all its layers in one call, activations in float32."""

import ctypes
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..kernels import LinearWeight
from ..kernels.cpu.library import LayerStruct, ModelStruct, StepStruct
from ..kernels.cpu.operations import DrawRule, NativeOperations, NativePlan, cache_struct
from ..kernels.cpu.weights import PackedWeight, embedding_struct
from ..kernels.quantised import Fp8Weight, dense
from ..paged_cache.kv_tensors import KVCache
from .config import ModelConfig
from .decoder import rotary_tables
from .decoder_weights import Layer, take_weights
from .native_support import MAX_HEAD_DIM
from .random_numbers import mix_key
from .sampler import SamplingRow


class NativeDecoder:
    """`Decoder` for native kernels: weights are float32, bfloat16, or a GGUF file's integers.

    Raises ModelFormatError as `Decoder` does. The KV cache is float32 or bfloat16.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Iterable[tuple[str, LinearWeight]],
        *,
        dtype: torch.dtype,
        max_positions: int,
        operations: NativeOperations,
    ) -> None:
        self.config = config
        self._native = operations
        weights = take_weights(config, tensors, dtype=dtype, device=torch.device("cpu"))
        embedding = weights.embedding
        self._embedding = dense(embedding) if isinstance(embedding, Fp8Weight) else embedding
        self._head = operations.prepare(weights.head)
        self._cos, self._sin = rotary_tables(config, max_positions)
        self._norm = weights.norm.float()
        self._structs = (LayerStruct * config.num_layers)()
        self._borrowed: list[Tensor | PackedWeight] = []  # what the structures point into
        for struct, window in zip(self._structs, config.windows, strict=True):
            self._fill(struct, weights.layers.pop(0), window)
        self._model = ModelStruct(
            embedding=embedding_struct(self._embedding),
            layers=ctypes.cast(self._structs, ctypes.POINTER(LayerStruct)),
            norm=self._norm.data_ptr(),
            cos=self._cos.data_ptr(),
            sin=self._sin.data_ptr(),
            num_layers=config.num_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            eps=config.rms_norm_eps,
            scale=config.head_dim**-0.5,
        )
        self._workspace = torch.empty(0, dtype=torch.uint8)
        self._cache: KVCache | None = None  # the one that the structures point into

    def _fill(self, struct: LayerStruct, layer: Layer, window: int) -> None:
        struct.window = window
        for name in ("qkv", "output", "gate_up", "down"):
            weight = self._native.prepare(getattr(layer, name))
            bias = self._vector(getattr(layer, f"{name}_bias"))
            self._borrowed.append(weight)
            setattr(struct, name, weight.struct(bias))
        for name in ("input_norm", "post_norm", "q_norm", "k_norm"):
            vector = self._vector(getattr(layer, name))
            setattr(struct, name, None if vector is None else vector.data_ptr())

    def _vector(self, values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        vector = values.float().contiguous()
        self._borrowed.append(vector)
        return vector

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        plan: NativePlan,
        cache: KVCache,
        rows: Tensor | None = None,
    ) -> Tensor:
        """See `Decoder.forward`. Raises IndexError for a token or position that does not exist."""
        tokens = len(token_ids)
        _check_range(positions, len(self._cos), "position")
        _check_range(token_ids, self.config.vocab_size, "token")
        if cache is not self._cache:
            for index, struct in enumerate(self._structs):
                struct.cache = cache_struct(*cache.layer(index))
            self._cache = cache
        if rows is None:
            rows = torch.arange(tokens)
        states = torch.empty(len(rows), self.config.hidden_size)
        needed = self._native.library.workspace_bytes(
            self._model, tokens, len(plan.spans), plan.longest
        )
        if needed > len(self._workspace):
            self._workspace = torch.empty(needed, dtype=torch.uint8)
        step = StepStruct(
            token_ids=token_ids.data_ptr(),
            positions=positions.data_ptr(),
            slots=slots.data_ptr(),
            rows=rows.data_ptr(),
            states=states.data_ptr(),
            workspace=self._workspace.data_ptr(),
            num_tokens=tokens,
            num_rows=len(rows),
            plan=plan.struct(),
        )
        self._native.kernels.forward(self._model, step)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """[rows, hidden] to float32 logits [rows, vocab]."""
        return self._native.linear(states, self._head, None)

    def draw(self, logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        """See `sampler.draw`."""
        return self._native.draw(logits, [_rule(row) for row in rows])


def _check_range(indices: Tensor, limit: int, what: str) -> None:
    least, most = (int(bound) for bound in indices.aminmax())
    if least < 0 or most >= limit:
        raise IndexError(f"{what} {least if least < 0 else most} of {limit}")


def can_run(config: ModelConfig, dtype: str, kv_dtype: str) -> bool:
    """Whether the native kernels know these types and sizes."""
    kinds = {"float32", "bfloat16"}
    return dtype in kinds and kv_dtype in kinds and config.head_dim <= MAX_HEAD_DIM


def _rule(row: SamplingRow) -> DrawRule:
    spec = row.spec
    return DrawRule(
        0.0 if spec.greedy else spec.temperature,
        spec.top_k,
        spec.top_p,
        spec.min_p,
        mix_key(spec.seed, row.position),
    )
