"""A decoder's weights, taken from a model's tensors: fused where one product serves several."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import LinearWeight
from .config import ModelConfig
from .tensor_store import TensorStore


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer. Fused: qkv is Q, K, V stacked by rows; gate_up is gate and up."""

    input_norm: Tensor  # [hidden]
    qkv: LinearWeight  # [(heads + 2 * kv_heads) * head_dim, hidden]
    qkv_bias: Tensor | None
    q_norm: Tensor | None  # [head_dim]
    k_norm: Tensor | None
    output: LinearWeight  # [hidden, heads * head_dim]
    output_bias: Tensor | None
    post_norm: Tensor  # [hidden]
    gate_up: LinearWeight  # [2 * intermediate, hidden]
    gate_up_bias: Tensor | None
    down: LinearWeight  # [hidden, intermediate]
    down_bias: Tensor | None


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """All weights; the head is the embedding where the model ties them."""

    embedding: LinearWeight  # [vocab, hidden]
    layers: list[Layer]
    norm: Tensor  # [hidden]
    head: LinearWeight  # [vocab, hidden]


def take_weights(
    config: ModelConfig,
    tensors: Iterable[tuple[str, LinearWeight]],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> DecoderWeights:
    """Dense tensors in `dtype` on `device`; linear weights and the embedding stay as they come.

    Raises ModelFormatError if a tensor is missing, of a wrong shape, or belongs to no layer.
    """
    store = TensorStore(tensors, dtype, device)
    hidden, vocab = config.hidden_size, config.vocab_size
    embedding = store.take_linear("model.embed_tokens.weight", (vocab, hidden))
    norm = store.take("model.norm.weight", (hidden,))
    layers = [_take_layer(config, store, index) for index in range(config.num_layers)]
    if config.tie_word_embeddings:
        store.discard("lm_head.weight")
        head = embedding
    else:
        head = store.take_linear("lm_head.weight", (vocab, hidden))
    store.check_empty()
    return DecoderWeights(embedding, layers, norm, head)


def _take_layer(config: ModelConfig, store: TensorStore, index: int) -> Layer:
    heads, kv_heads, width = config.num_heads, config.num_kv_heads, config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    name = f"model.layers.{index}."
    attention, mlp = name + "self_attn.", name + "mlp."
    rows = ((heads * width,), (kv_heads * width,), (kv_heads * width,))
    qkv = [attention + part for part in ("q_proj", "k_proj", "v_proj")]
    gate_up = [mlp + part for part in ("gate_proj", "up_proj")]

    def take(tensor: str, size: int, is_there: bool) -> Tensor | None:
        return store.take(tensor, (size,)) if is_there else None

    return Layer(
        input_norm=store.take(name + "input_layernorm.weight", (hidden,)),
        qkv=store.fuse_linear(qkv, [(*r, hidden) for r in rows]),
        qkv_bias=store.fuse(qkv, "bias", rows) if config.qkv_bias else None,
        q_norm=take(attention + "q_norm.weight", width, config.qk_norm),
        k_norm=take(attention + "k_norm.weight", width, config.qk_norm),
        output=store.take_linear(attention + "o_proj.weight", (hidden, heads * width)),
        output_bias=take(attention + "o_proj.bias", hidden, config.o_bias),
        post_norm=store.take(name + "post_attention_layernorm.weight", (hidden,)),
        gate_up=store.fuse_linear(gate_up, [(inner, hidden)] * 2),
        gate_up_bias=store.fuse(gate_up, "bias", [(inner,)] * 2) if config.mlp_bias else None,
        down=store.take_linear(mlp + "down_proj.weight", (hidden, inner)),
        down_bias=take(mlp + "down_proj.bias", hidden, config.mlp_bias),
    )
