"""A model's shape in one frozen dataclass, whatever file it came from."""

import math
from dataclasses import dataclass

from .errors import ModelFormatError, naming_file
from .resolve import ModelFiles

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
MAX_LAYERS = 10_000


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    `kind` is linear, llama3, yarn ("YaRN: Efficient Context Window Extension", Peng et al., 2023)
    or divisors (given one by one, as GGUF files of Llama 3 do).
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

    def __post_init__(self) -> None:
        for name in ("factor", "original_max_position", "beta_fast", "beta_slow"):
            _check_positive(f"rope scaling's {name}", getattr(self, name))
        _check_positive("rope scaling's attention_factor", self.attention_factor)
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ModelFormatError(
                "rope scaling needs 0 < low_freq_factor < high_freq_factor, got "
                f"{self.low_freq_factor} and {self.high_freq_factor}"
            )
        for divisor in self.divisors:
            _check_positive("a divisor of rope frequencies", divisor)


@dataclass(frozen=True)
class ModelConfig:
    """Everything a decoder must know besides its weights."""

    architecture: str  # llama, mistral, qwen2 or qwen3
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
    windows: tuple[int, ...]  # one a layer: tokens a query sees, itself included; 0 is all
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not 0 < value < 2**31:
                raise ModelFormatError(f"{name} must be between 1 and 2^31 - 1, got {value}")
        check_num_layers(self.num_layers)
        if self.num_heads % self.num_kv_heads:
            raise ModelFormatError(
                f"{self.num_heads} attention heads cannot share {self.num_kv_heads} KV heads"
            )
        if self.head_dim % 2:
            raise ModelFormatError(f"head_dim must be even for rotary angles, got {self.head_dim}")
        if len(self.windows) != self.num_layers or min(self.windows) < 0:
            raise ModelFormatError(
                f"{self.num_layers} layers need as many attention windows of 0 or more tokens"
            )
        _check_positive("rms_norm_eps", self.rms_norm_eps)
        if not 1 < self.rope_theta < math.inf:
            raise ModelFormatError(f"rope_theta must be above 1, got {self.rope_theta}")

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


def load_config(files: ModelFiles) -> ModelConfig:
    """Read the configuration of a resolved model; no weights are read.

    Raises ModelFormatError naming file and key where one is missing or impossible,
    UnsupportedModelError for an architecture that is not run here.
    """
    # Imported here: the readers import this file, and each needs libraries that the other does not.
    if files.kind == "gguf":
        from .gguf_config import config_from_gguf
        from .gguf_file import GGUFFile

        file = GGUFFile(files.path)
        with naming_file(files.path):
            return config_from_gguf(file)
    from .hf_config import config_from_json

    path = files.path / "config.json"
    with naming_file(path):
        return config_from_json(path)


def check_num_layers(num_layers: int) -> None:
    """Refuse a number of layers that only a corrupt file has, before anything is made of it."""
    if not 0 < num_layers <= MAX_LAYERS:
        raise ModelFormatError(f"number of layers must be 1 to {MAX_LAYERS:,}, got {num_layers}")


def _check_positive(what: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ModelFormatError(f"{what} must be a positive number, got {value}")
