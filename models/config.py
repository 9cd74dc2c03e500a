"""A model's shape in one frozen dataclass, whatever file it came from."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ModelFormatError, UnsupportedModelError
from .resolve import ModelFiles

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    `kind` is linear, llama3, yarn ("YaRN: Efficient Context Window Extension", Peng et al., 2023) or
    divisors (given one by one, as GGUF files of Llama 3 do).
    """

    kind: str
    factor: float
    original_max_position: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0  # multiplies cos and sin
    truncate: bool = True
    divisors: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """Everything a decoder must know besides its weights. `windows` has one entry a layer, 0 = all."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    max_position_embeddings: int
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    windows: tuple[int, ...]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (isinstance(value, int) and 0 < value < 2**31):
                raise ModelFormatError(f"{name} must be a positive number, got {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise ModelFormatError(
                f"{self.num_heads} attention heads cannot share {self.num_kv_heads} KV heads"
            )
        if self.head_dim % 2:
            raise ModelFormatError(f"head_dim must be even for rotary angles, got {self.head_dim}")
        if self.num_layers > 10_000 or len(self.windows) != self.num_layers:
            raise ModelFormatError(f"implausible number of layers: {self.num_layers}")

    @property
    def num_parameters(self) -> int:
        """Number of weights, tied embeddings counted once."""
        qkv = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        attention = self.hidden_size * qkv + self.num_heads * self.head_dim * self.hidden_size
        biases = qkv * self.qkv_bias + self.hidden_size * self.o_bias
        biases += (2 * self.intermediate_size + self.hidden_size) * self.mlp_bias
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = 2 * self.hidden_size + 2 * self.head_dim * self.qk_norm
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        layer = attention + biases + mlp + norms
        return embeddings + self.num_layers * layer + self.hidden_size


_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "max_position_embeddings",
)


def load_config(files: ModelFiles) -> ModelConfig:
    """Read the configuration of a resolved model.

    Raises ModelFormatError naming a missing or impossible key, UnsupportedModelError for an
    architecture that is not run here.
    """
    if files.kind == "gguf":
        from .gguf_config import config_from_gguf
        from .gguf_file import GGUFFile

        return config_from_gguf(GGUFFile(files.path))
    return config_from_json(files.path / "config.json")


def config_from_json(path: Path) -> ModelConfig:
    """Read a `config.json` as transformers writes it."""
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise ModelFormatError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelFormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ModelFormatError(f"{path}: not a JSON object")
    architecture = _architecture(raw, path)
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method", "unknown")
        raise UnsupportedModelError(f"{path}: quantization {method!r} is not supported; use GGUF")
    try:
        return _from_dict(raw, architecture, path)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ModelFormatError(f"{path}: a value has the wrong type: {error}") from None
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None


def _architecture(raw: dict[str, Any], path: Path) -> str:
    names = raw.get("architectures")
    if not isinstance(names, list) or not names:
        raise ModelFormatError(f"{path}: the key 'architectures' is missing")
    architecture = ARCHITECTURES.get(str(names[0]))
    if architecture is None:
        raise UnsupportedModelError(
            f"{path}: architecture {names[0]!r} is not supported; supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return architecture


def _from_dict(raw: dict[str, Any], architecture: str, path: Path) -> ModelConfig:
    def need(key: str) -> Any:
        if raw.get(key) is None:
            raise ModelFormatError(f"the key {key!r} is missing")
        return raw[key]

    hidden_size, num_heads = int(need("hidden_size")), int(need("num_attention_heads"))
    num_layers = int(need("num_hidden_layers"))
    max_position = int(need("max_position_embeddings"))
    rope = raw.get("rope_parameters") or {}
    scaling = rope if "rope_type" in rope else raw.get("rope_scaling")
    eos = raw.get("eos_token_id")
    dtype = str(raw.get("dtype") or raw.get("torch_dtype") or "float32").removeprefix("torch.")
    return ModelConfig(
        architecture=architecture,
        vocab_size=int(need("vocab_size")),
        hidden_size=hidden_size,
        intermediate_size=int(need("intermediate_size")),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=int(raw.get("num_key_value_heads") or num_heads),
        head_dim=int(raw.get("head_dim") or hidden_size // max(1, num_heads)),
        rms_norm_eps=float(need("rms_norm_eps")),
        rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0),
        rope_scaling=rope_scaling_from_dict(scaling, max_position),
        max_position_embeddings=max_position,
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=architecture == "qwen2" or bool(raw.get("attention_bias", False)),
        o_bias=architecture in ("llama", "qwen3") and bool(raw.get("attention_bias", False)),
        mlp_bias=bool(raw.get("mlp_bias", False)),
        qk_norm=architecture == "qwen3",
        windows=_windows(raw, architecture, num_layers),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
        dtype=dtype if dtype in DTYPES else "float32",
    )


def _windows(raw: dict[str, Any], architecture: str, num_layers: int) -> tuple[int, ...]:
    """The attention window of each layer; Mistral's holds for all, Qwen's for the upper layers."""
    window = raw.get("sliding_window")
    if not window or (architecture != "mistral" and not raw.get("use_sliding_window", False)):
        return (0,) * num_layers
    if architecture == "mistral":
        return (int(window),) * num_layers
    types = raw.get("layer_types")
    if types is None:
        first = int(raw.get("max_window_layers") or 0)
        return tuple(int(window) if i >= first else 0 for i in range(num_layers))
    return tuple(int(window) if kind == "sliding_attention" else 0 for kind in types)


def rope_scaling_from_dict(raw: dict[str, Any] | None, max_position: int) -> RopeScaling | None:
    """Read `rope_scaling` (or transformers 5's `rope_parameters`), None where nothing is scaled."""
    if not raw:
        return None
    kind = raw.get("rope_type") or raw.get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "llama3", "yarn"):
        raise UnsupportedModelError(
            f"rope scaling {kind!r} is not supported; supported are linear, llama3, yarn"
        )
    if raw.get("factor") is None:
        raise ModelFormatError("the key 'factor' of rope scaling is missing")
    factor = float(raw["factor"])
    original = int(raw.get("original_max_position_embeddings") or max_position)
    return RopeScaling(
        kind=kind,
        factor=factor,
        original_max_position=original,
        low_freq_factor=float(raw.get("low_freq_factor", 1.0)),
        high_freq_factor=float(raw.get("high_freq_factor", 4.0)),
        beta_fast=float(raw.get("beta_fast") or 32.0),
        beta_slow=float(raw.get("beta_slow") or 1.0),
        attention_factor=_attention_factor(raw, factor) if kind == "yarn" else 1.0,
        truncate=bool(raw.get("truncate", True)),
    )


def _attention_factor(raw: dict[str, Any], factor: float) -> float:
    """YaRN's temperature, as a factor on cos and sin (equation 15 of the paper)."""
    if raw.get("attention_factor") is not None:
        return float(raw["attention_factor"])

    def mscale(strength: float) -> float:
        return 0.1 * strength * math.log(factor) + 1.0 if factor > 1 else 1.0

    if raw.get("mscale") and raw.get("mscale_all_dim"):
        return mscale(float(raw["mscale"])) / mscale(float(raw["mscale_all_dim"]))
    return mscale(1.0)
