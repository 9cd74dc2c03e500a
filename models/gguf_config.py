"""A model's configuration from GGUF metadata, by the keys that llama.cpp's converter writes."""

import math

from .config import ModelConfig, RopeScaling, check_num_layers
from .errors import ModelFormatError, UnsupportedModelError
from .gguf_file import GGUFFile
from .metadata import Metadata

GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")


def config_from_gguf(file: GGUFFile) -> ModelConfig:
    """Read the metadata. Mistral models bear the name llama there.

    Biases and tied embeddings have no keys; whether the tensors are there says it. Raises
    ModelFormatError naming a missing key, UnsupportedModelError.
    """
    everything = Metadata(file.metadata)
    architecture = everything.text("general.architecture")
    if architecture not in GGUF_ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is not supported in GGUF files; supported are "
            f"{', '.join(GGUF_ARCHITECTURES)}"
        )
    values = Metadata(file.metadata, f"{architecture}.")
    _refuse_variants(everything, values)
    hidden_size, num_heads = values.integer("embedding_length"), _heads(values, "head_count")
    num_layers = values.integer("block_count")
    check_num_layers(num_layers)
    head_dim = values.integer("attention.key_length", hidden_size // max(1, num_heads))
    for key in ("attention.value_length", "rope.dimension_count"):
        if values.integer(key, head_dim) != head_dim:
            raise UnsupportedModelError(
                f"'{architecture}.{key}' of {values.integer(key)} is not supported; it must be "
                f"the head's size, {head_dim}"
            )
    context_length = values.integer("context_length")
    bos = everything.token_ids("tokenizer.ggml.bos_token_id")
    return ModelConfig(
        architecture=architecture,
        vocab_size=_vocab_size(file, values),
        hidden_size=hidden_size,
        intermediate_size=values.integer("feed_forward_length"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_heads(values, "head_count_kv", num_heads),
        head_dim=head_dim,
        rms_norm_eps=values.number("attention.layer_norm_rms_epsilon"),
        rope_theta=values.number("rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(file, values, context_length),
        max_position_embeddings=context_length,
        tie_word_embeddings=file.find("output.weight") is None,
        qkv_bias=file.find("blk.0.attn_q.bias") is not None,
        o_bias=file.find("blk.0.attn_output.bias") is not None,
        mlp_bias=file.find("blk.0.ffn_gate.bias") is not None,
        qk_norm=architecture == "qwen3",
        windows=(values.integer("attention.sliding_window", 0),) * num_layers,
        bos_token_id=bos[0] if bos else None,
        eos_token_ids=everything.token_ids("tokenizer.ggml.eos_token_id"),
        dtype="float16",
    )


def _refuse_variants(everything: Metadata, values: Metadata) -> None:
    if values.integer("expert_count", 0):
        raise UnsupportedModelError("mixtures of experts are not supported")
    parts = everything.integer("split.count", 1)
    if parts > 1:
        raise UnsupportedModelError(
            f"the model is split into {parts} files; join them with llama.cpp's "
            "`llama-gguf-split --merge`"
        )


def _heads(values: Metadata, key: str, default: int | None = None) -> int:
    if isinstance(values.get(f"attention.{key}"), list):
        raise UnsupportedModelError(f"attention.{key} that differs between layers is not supported")
    return values.integer(f"attention.{key}", default)


def _vocab_size(file: GGUFFile, values: Metadata) -> int:
    """The embedding's rows; the list of tokens may be shorter."""
    embedding = file.find("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        return embedding.shape[0]
    return values.integer("vocab_size", len(file.metadata.get("tokenizer.ggml.tokens") or ()))


def _rope_scaling(file: GGUFFile, values: Metadata, context_length: int) -> RopeScaling | None:
    """Linear and yarn are keys; llama3's divisors come as the tensor `rope_freqs.weight`."""
    divisors = file.find("rope_freqs.weight")
    if divisors is not None:
        if math.prod(divisors.shape) > 4096:
            raise ModelFormatError(f"'rope_freqs.weight' has the shape {divisors.shape}")
        values_list = file.dequantise(divisors).astype(float).ravel().tolist()
        return RopeScaling("divisors", 1.0, context_length, divisors=tuple(values_list))
    # Without a type the factor is linear; the oldest files call it scale_linear (llama.cpp).
    kind = values.text("rope.scaling.type", "linear")
    factor = values.number("rope.scaling.factor", values.number("rope.scale_linear", 1.0)) or 1.0
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return None
    original = values.integer("rope.scaling.original_context_length", context_length)
    if kind == "linear":
        return RopeScaling("linear", factor, original)
    if kind != "yarn":
        raise UnsupportedModelError(
            f"rope scaling {kind!r} is not supported; supported are linear, yarn"
        )
    temperature = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    return RopeScaling(
        "yarn",
        factor,
        original,
        beta_fast=values.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=values.number("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=temperature * values.number("rope.scaling.attn_factor", 1.0),
    )
