"""A model's configuration from `config.json`, as transformers 4 and 5 write it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import ModelConfig, RopeScaling, check_num_layers
from .errors import ModelFormatError, UnsupportedModelError
from .metadata import Metadata

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
ROPE_KINDS = ("default", "linear", "llama3", "yarn")
DTYPES = ("float32", "bfloat16", "float16")

# What transformers assumes where a file leaves these out.
_DEFAULT_THETA = 10_000.0
_DEFAULT_MISTRAL_WINDOW = 4096
_DEFAULT_QWEN_WINDOW = 4096
_DEFAULT_MAX_WINDOW_LAYERS = 28


def config_from_json(path: Path) -> ModelConfig:
    """Read `config.json`. Raises ModelFormatError naming a key, UnsupportedModelError."""
    raw = read_json_object(path)
    architecture = _architecture(raw)
    if raw.get("quantization_config"):
        _check_quantization(raw["quantization_config"])
    values = Metadata(raw)
    if values.text("hidden_act", "silu") not in ("silu", "swish"):
        raise UnsupportedModelError(
            f"activation {raw['hidden_act']!r} is not supported; supported is silu"
        )
    hidden_size, num_heads = values.integer("hidden_size"), values.integer("num_attention_heads")
    num_layers = values.integer("num_hidden_layers")
    check_num_layers(num_layers)
    has_bias = values.flag("attention_bias", False) and architecture in ("llama", "qwen3")
    theta, scaling = _rope(raw, values.integer("max_position_embeddings"))
    bos = values.token_ids("bos_token_id")
    dtype = str(raw.get("dtype") or raw.get("torch_dtype")).removeprefix("torch.")
    return ModelConfig(
        architecture=architecture,
        vocab_size=values.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=values.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=values.integer("num_key_value_heads", num_heads),
        head_dim=values.integer("head_dim", hidden_size // max(1, num_heads)),
        rms_norm_eps=values.number("rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=values.integer("max_position_embeddings"),
        tie_word_embeddings=values.flag("tie_word_embeddings", False),
        qkv_bias=architecture == "qwen2" or has_bias,
        o_bias=has_bias,
        mlp_bias=architecture == "llama" and values.flag("mlp_bias", False),
        qk_norm=architecture == "qwen3",
        windows=_windows(raw, architecture, num_layers),
        bos_token_id=bos[0] if bos else None,
        eos_token_ids=values.token_ids("eos_token_id"),
        dtype=dtype if dtype in DTYPES else "float32",
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file whose top is an object. Raises ModelFormatError that does not name the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFormatError(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelFormatError("not a JSON object")
    return value


def _architecture(raw: Mapping[str, Any]) -> str:
    names = raw.get("architectures")
    if not isinstance(names, list) or not names:
        raise ModelFormatError("the key 'architectures' is missing")
    architecture = ARCHITECTURES.get(str(names[0]))
    if architecture is None:
        raise UnsupportedModelError(
            f"architecture {str(names[0])!r} is not supported; supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return architecture


def _check_quantization(quantization: object) -> None:
    """Refuse what is quantised in any way but as `fp8_checkpoint` reads it."""
    settings: dict[str, Any] = quantization if isinstance(quantization, dict) else {}
    method = settings.get("quant_method")
    groups = settings.get("config_groups")
    is_ours = method == "compressed-tensors" and isinstance(groups, dict) and bool(groups)
    if not is_ours or not all(_is_fp8(group) for group in dict(groups or {}).values()):
        raise UnsupportedModelError(
            f"quantization {method or 'of unknown kind'!r} is not supported; use an unquantised "
            "checkpoint, 8-bit floats of compressed-tensors (a scale for each channel, activations "
            "dynamic), or a GGUF file"
        )


def _is_fp8(group: object) -> bool:
    weights = group.get("weights") if isinstance(group, dict) else None
    inputs = group.get("input_activations") if isinstance(group, dict) else None
    return (
        isinstance(weights, dict)
        and (weights.get("type"), weights.get("num_bits")) == ("float", 8)
        and weights.get("strategy") in ("channel", "tensor")
        and (inputs is None or (isinstance(inputs, dict) and inputs.get("dynamic") is True))
    )


def _windows(raw: Mapping[str, Any], architecture: str, num_layers: int) -> tuple[int, ...]:
    """The attention window of each layer: Mistral's holds for all, Qwen's for the upper layers."""
    values = Metadata(raw)
    everything = (0,) * num_layers
    if architecture == "llama":
        return everything
    if architecture == "mistral":
        if "sliding_window" in raw and raw["sliding_window"] is None:
            return everything
        return (values.integer("sliding_window", _DEFAULT_MISTRAL_WINDOW),) * num_layers
    if not values.flag("use_sliding_window", False) or raw.get("sliding_window", 0) is None:
        return everything
    window = values.integer("sliding_window", _DEFAULT_QWEN_WINDOW)
    kinds = raw.get("layer_types")
    if kinds is None:
        first = values.integer("max_window_layers", _DEFAULT_MAX_WINDOW_LAYERS)
        return tuple(window if layer >= first else 0 for layer in range(num_layers))
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise ModelFormatError(f"'layer_types' must be a list of {num_layers} entries")
    unknown = [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]
    if unknown:
        raise UnsupportedModelError(
            f"layer type {unknown[0]!r} is not supported; supported are full_attention, "
            "sliding_attention"
        )
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _rope(raw: Mapping[str, Any], max_position: int) -> tuple[float, RopeScaling | None]:
    """Base and scaling: transformers 5 has `rope_parameters`, 4 `rope_theta` and `rope_scaling`."""
    both = {**(_section(raw, "rope_scaling")), **(_section(raw, "rope_parameters"))}
    if any(isinstance(value, dict) for value in both.values()):
        raise UnsupportedModelError("rotary angles that differ between layers are not supported")
    values, top = Metadata(both), Metadata(raw)
    partial = values.number("partial_rotary_factor", top.number("partial_rotary_factor", 1.0))
    if partial != 1:
        raise UnsupportedModelError(
            f"partial_rotary_factor {partial} is not supported; rotary angles must cover the head"
        )
    theta = values.number("rope_theta", top.number("rope_theta", _DEFAULT_THETA))
    # Files of 2023 say "type".
    kind = values.text("rope_type", values.text("type", "default"))
    if kind not in ROPE_KINDS:
        raise UnsupportedModelError(
            f"rope scaling {kind!r} is not supported; supported are {', '.join(ROPE_KINDS)}"
        )
    if kind == "default":
        return theta, None
    inner = values.integer("original_max_position_embeddings", max_position)
    original = top.integer("original_max_position_embeddings", inner)
    if kind == "linear":
        return theta, RopeScaling(kind, values.number("factor"), original)
    if kind == "llama3":
        return theta, RopeScaling(
            kind,
            values.number("factor"),
            original,
            low_freq_factor=values.number("low_freq_factor"),
            high_freq_factor=values.number("high_freq_factor"),
        )
    factor = values.number("factor", max_position / original if original > 0 else None)
    return theta, RopeScaling(
        kind,
        factor,
        original,
        beta_fast=values.number("beta_fast", 32.0) or 32.0,
        beta_slow=values.number("beta_slow", 1.0) or 1.0,
        attention_factor=_yarn_attention_factor(values, factor),
        truncate=values.flag("truncate", True),
    )


def _section(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = raw.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ModelFormatError(f"{key!r} must be an object, got {type(section).__name__}")
    return section


def _yarn_attention_factor(values: Metadata, factor: float) -> float:
    """YaRN's temperature, as a factor on cos and sin (equation 15 of the paper)."""
    if values.get("attention_factor") is not None:
        return values.number("attention_factor")

    def temperature(strength: float) -> float:
        return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0

    strength, everywhere = values.number("mscale", 0.0), values.number("mscale_all_dim", 0.0)
    if strength and everywhere:
        return temperature(strength) / temperature(everywhere)
    return temperature(1.0)
