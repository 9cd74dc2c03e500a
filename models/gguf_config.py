"""A model's configuration from GGUF metadata."""

import math
from typing import Any

from .config import ModelConfig, RopeScaling
from .errors import ModelFormatError, UnsupportedModelError
from .gguf_file import GGUFFile

GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")


def config_from_gguf(file: GGUFFile) -> ModelConfig:
    """Read the keys that llama.cpp's converter writes. Mistral models bear the name llama there.

    Raises ModelFormatError naming a missing key, UnsupportedModelError.
    """
    metadata, path = file.metadata, file.path
    architecture = metadata.get("general.architecture")
    if architecture is None:
        raise ModelFormatError(f"{path}: the key 'general.architecture' is missing")
    if architecture not in GGUF_ARCHITECTURES:
        raise UnsupportedModelError(
            f"{path}: architecture {architecture!r} is not supported in GGUF files; supported are "
            f"{', '.join(GGUF_ARCHITECTURES)}"
        )
    if metadata.get(f"{architecture}.expert_count"):
        raise UnsupportedModelError(f"{path}: mixtures of experts are not supported")

    def need(key: str) -> Any:
        name = f"{architecture}.{key}"
        if name not in metadata:
            raise ModelFormatError(f"{path}: the key {name!r} is missing")
        return metadata[name]

    def get(key: str, default: Any = None) -> Any:
        return metadata.get(f"{architecture}.{key}", default)

    tokens = metadata.get("tokenizer.ggml.tokens")
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    try:
        hidden_size, num_heads = int(need("embedding_length")), int(need("attention.head_count"))
        num_layers = int(need("block_count"))
        window = int(get("attention.sliding_window", 0))
        return ModelConfig(
            architecture=architecture,
            vocab_size=int(get("vocab_size") or len(tokens or ())),
            hidden_size=hidden_size,
            intermediate_size=int(need("feed_forward_length")),
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=int(get("attention.head_count_kv", num_heads)),
            head_dim=int(get("attention.key_length") or hidden_size // max(1, num_heads)),
            rms_norm_eps=float(need("attention.layer_norm_rms_epsilon")),
            rope_theta=float(get("rope.freq_base", 10000.0)),
            rope_scaling=_rope_scaling(file, get, int(need("context_length"))),
            max_position_embeddings=int(need("context_length")),
            tie_word_embeddings=file.find("output.weight") is None,
            qkv_bias=architecture == "qwen2",
            o_bias=False,
            mlp_bias=False,
            qk_norm=architecture == "qwen3",
            windows=(window,) * min(num_layers, 100_000),
            bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=() if eos is None else (int(eos),),
            dtype="float16",
        )
    except (TypeError, OverflowError) as error:
        raise ModelFormatError(f"{path}: a metadata value has the wrong type: {error}") from None
    except UnsupportedModelError:
        raise
    except ValueError as error:
        raise ModelFormatError(f"{path}: {error}") from None


def _rope_scaling(file: GGUFFile, get: Any, context_length: int) -> RopeScaling | None:
    """Linear and yarn are keys; llama3's divisors come as the tensor `rope_freqs.weight`."""
    divisors = file.find("rope_freqs.weight")
    if divisors is not None:
        values = tuple(file.dequantise(divisors).astype(float).ravel().tolist())
        return RopeScaling("divisors", 1.0, context_length, divisors=values)
    kind = get("rope.scaling.type", "none")
    if kind == "none":
        return None
    factor = float(get("rope.scaling.factor", 1.0))
    original = int(get("rope.scaling.original_context_length", context_length))
    if kind == "linear":
        return RopeScaling("linear", factor, original)
    if kind == "yarn":
        temperature = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        return RopeScaling("yarn", factor, original, attention_factor=temperature)
    raise UnsupportedModelError(f"rope scaling {kind!r} is not supported; supported: linear, yarn")
