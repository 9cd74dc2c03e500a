"""The decoder of Llama, Mistral, Qwen2 and Qwen3: one file, weights fused, attention paged."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import LinearWeight, Operations
from ..paged_cache.kv_tensors import KVCache
from .config import ModelConfig, RopeScaling
from .decoder_weights import take_weights
from .errors import ModelFormatError
from .tensor_store import as_dense


class Decoder:
    """A loaded decoder. Weights are in `dtype` on `device`; rotary angles reach `max_positions`.

    Linear layers whose tensors come packed stay so, if `operations` are to read them that way.

    Raises ModelFormatError if a tensor is missing, of a wrong shape, or belongs to no layer.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Iterable[tuple[str, LinearWeight]],
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_positions: int,
        operations: Operations,
    ) -> None:
        self.config = config
        self.dtype = dtype
        self._operations = operations
        weights = take_weights(config, tensors, dtype=dtype, device=device)
        self._embedding = as_dense(weights.embedding, dtype)
        # Tied, it is one and the same tensor.
        self._head = self._embedding if weights.head is weights.embedding else weights.head
        self._norm, self._layers = weights.norm, weights.layers
        cos, sin = rotary_tables(config, max_positions)
        self._cos, self._sin = cos.to(device, dtype), sin.to(device, dtype)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        plan: Any,
        cache: KVCache,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Compute new tokens, storing their keys and values; integer inputs are [tokens].

        Returns the last layer's normed states [tokens, hidden], of the given rows only if there are
        some. `plan` is the attention plan of the operations' kind. Within each layer all keys and
        values are written before any is read, so that sequences of one step may share blocks.
        """
        config, do = self.config, self._operations
        eps = config.rms_norm_eps
        scale = config.head_dim**-0.5
        angles = do.look_up_angles(self._cos, self._sin, positions)
        residual = F.embedding(token_ids, self._embedding)  # [tokens, hidden]
        states = do.rms_norm(residual, self._layers[0].input_norm, eps)
        for index, layer in enumerate(self._layers):
            if index > 0:
                states, residual = do.add_rms_norm(states, residual, layer.input_norm, eps)
            keys, values = cache.layer(index)
            query = do.rotate_and_write(  # [tokens, heads, head_dim]
                do.linear(states, layer.qkv, layer.qkv_bias),
                angles,
                slots,
                keys,
                values,
                num_heads=config.num_heads,
                q_norm=layer.q_norm,
                k_norm=layer.k_norm,
                eps=eps,
            )
            attended = do.attend(
                query, keys, values, plan, scale=scale, window=config.windows[index]
            )
            states = do.linear(attended.flatten(1), layer.output, layer.output_bias)
            states, residual = do.add_rms_norm(states, residual, layer.post_norm, eps)
            inner = do.silu_mul(do.linear(states, layer.gate_up, layer.gate_up_bias))
            states = do.linear(inner, layer.down, layer.down_bias)
        return do.add_rms_norm(states, residual, self._norm, eps, rows)[0]

    def logits(self, states: Tensor) -> Tensor:
        """[rows, hidden] to float32 logits [rows, vocab]."""
        return self._operations.linear(states, self._head, None).float()


def rotary_tables(config: ModelConfig, max_positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of each position, both float32 [max_positions, head_dim / 2]."""
    frequencies, factor = rotary_frequencies(config)
    angles = torch.outer(torch.arange(max_positions).float(), frequencies)
    return angles.cos() * factor, angles.sin() * factor


def rotary_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """Angles per position of each pair of dimensions [head_dim / 2]; the factor on cos and sin."""
    width = config.head_dim
    exponents = torch.arange(0, width, 2, dtype=torch.int64).float() / width
    frequencies = 1.0 / (config.rope_theta**exponents)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "divisors":
        if len(scaling.divisors) != width // 2:
            raise ModelFormatError(
                f"rope_freqs.weight has {len(scaling.divisors)} values, expected {width // 2}"
            )
        return frequencies / torch.tensor(scaling.divisors), 1.0
    if scaling.kind == "llama3":
        return _llama3_frequencies(frequencies, scaling), 1.0
    return _yarn_frequencies(frequencies, scaling, config), scaling.attention_factor


def _llama3_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: long waves are stretched, short ones kept, those between blended."""
    wavelength = 2 * math.pi / frequencies
    low_limit = scaling.original_max_position / scaling.low_freq_factor
    high_limit = scaling.original_max_position / scaling.high_freq_factor
    stretched = frequencies / scaling.factor
    blend = (scaling.original_max_position / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - blend) * stretched + blend * frequencies
    result = torch.where(wavelength > low_limit, stretched, frequencies)
    is_between = (wavelength <= low_limit) & (wavelength >= high_limit)
    return torch.where(is_between, between, result)


def _yarn_frequencies(frequencies: Tensor, scaling: RopeScaling, config: ModelConfig) -> Tensor:
    """YaRN section 3.2: a ramp over dimensions from kept to stretched."""
    width = config.head_dim

    def dimension_of(rotations: float) -> float:
        turns = scaling.original_max_position / (rotations * 2 * math.pi)
        return width * math.log(turns) / (2 * math.log(config.rope_theta))

    low, high = dimension_of(scaling.beta_fast), dimension_of(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    span = high - low if high != low else 0.001
    ramp = ((torch.arange(width // 2).float() - low) / span).clamp(0, 1)
    return frequencies / scaling.factor * ramp + frequencies * (1 - ramp)
