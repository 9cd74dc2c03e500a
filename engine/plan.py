"""The memory plan: how many KV blocks there will be, computed before any weight is loaded.

People wait minutes for weights only to read that their context does not fit; here that is known
from the model's configuration in well under a second, together with the length that would fit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .devices import (
    choose_device,
    choose_dtype,
    free_memory,
    has_native_kernels,
    usable_cores,
)
from .errors import ConfigurationError
from .settings import Settings

if TYPE_CHECKING:
    from ..models.config import ModelConfig
    from ..models.native_support import PackedSize

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}
DEFAULT_UTILIZATION = 0.9
GPU_CONTEXT_BYTES = 512 * 1024**2  # what CUDA and its libraries take for themselves
GPU_GRAPHS_SHARE = 0.02
SURE_SHARE = 0.9  # of an estimate that a measurement will replace
DEFAULT_CPU_KV_BYTES = 4 * 1024**3


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine needs to start; crosses to its process as JSON."""

    model_path: str
    device: str
    dtype: str
    kv_dtype: str
    keep_packed: bool
    block_size: int
    num_blocks: int
    memory_share: float | None  # a GPU's blocks are counted by it, once its free memory is measured
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    long_prefill_token_threshold: int
    enable_prefix_caching: bool
    scheduling_policy: str
    async_scheduling: bool
    enforce_eager: bool
    deterministic: bool
    num_threads: int
    block_life_sample: float  # share of the blocks whose lives are measured; 0: none
    log_level: str
    log_format: str


@dataclass(frozen=True)
class MemoryPlan:
    """Where the device's memory goes, in bytes, and how many tokens that holds."""

    device: str
    dtype: str
    free_bytes: int
    weight_bytes: int
    activation_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int
    block_size: int
    num_blocks: int  # one of them is padding and holds no request's tokens
    sized_by: str
    max_model_len: int
    model_max_len: int

    @property
    def kv_tokens(self) -> int:
        """Tokens of context that fit at once."""
        return (self.num_blocks - 1) * self.block_size

    @property
    def longest_context(self) -> int:
        """Longest single context that fits, whatever the model allows."""
        return self.kv_tokens

    def rows(self) -> list[tuple[str, str]]:
        """The plan as (name, value) pairs for people."""
        return [
            ("device, type", f"{self.device}, {self.dtype}"),
            ("free memory", _gib(self.free_bytes)),
            ("weights", _gib(self.weight_bytes)),
            ("activations (estimate)", _gib(self.activation_bytes)),
            ("KV cache", f"{_gib(self.kv_bytes)} (by {self.sized_by})"),
            ("KV per token", f"{self.kv_bytes_per_token:,} bytes"),
            ("blocks", f"{self.num_blocks - 1:,} of {self.block_size} tokens"),
            ("tokens in cache", f"{self.kv_tokens:,}"),
            ("longest context that fits", f"{min(self.longest_context, self.model_max_len):,}"),
            ("--max-model-len", f"{self.max_model_len:,} (model: {self.model_max_len:,})"),
            (
                "full-length requests at once",
                f"{self.kv_tokens / self.max_model_len:,.1f}",
            ),
        ]


def make_plan(
    settings: Settings,
    config: "ModelConfig",
    model_path: str,
    weight_file_bytes: int | None = None,
    packed: "PackedSize | None" = None,
) -> tuple[EngineConfig, MemoryPlan]:
    """Resolve every open setting against the model and the device.

    `weight_file_bytes` is the size of the model's files, whose packed weights stay so on a GPU, and
    `packed` what a CPU's native kernels would hold of them. Raises
    ConfigurationError if the weights or the wanted context cannot fit; the message names what
    would.
    """
    device = choose_device(settings.device)
    cuda = device == "cuda"
    native = not cuda and settings.dtype != "float16" and has_native_kernels(config.head_dim)
    dtype = choose_dtype(settings.dtype, device, config.dtype, native)
    if settings.deterministic and not cuda and not native:
        raise ConfigurationError(
            "--deterministic needs the native CPU kernels, which were not compiled at "
            "installation (no C compiler?), a type other than float16, and heads of at most 256"
        )
    # On a CPU a type that was asked for is had exactly: weights are unpacked to it.
    has_packed = packed is not None and packed.num_packable > 0
    keep_packed = cuda or (native and settings.dtype == "auto" and has_packed)
    max_num_seqs = settings.max_num_seqs or (256 if cuda else 64)
    budget = settings.max_num_batched_tokens or max(max_num_seqs, 2048 if cuda else 512)
    if budget < max_num_seqs:
        raise ConfigurationError(
            f"--max-num-batched-tokens {budget} is less than --max-num-seqs {max_num_seqs}: every "
            "running sequence needs one token a step"
        )

    size = DTYPE_BYTES[dtype]
    kv_dtype = _kv_dtype(settings.kv_cache_dtype, dtype, device, keep_packed)
    if kv_dtype != dtype and not cuda and not native:
        raise ConfigurationError(
            f"--kv-cache-dtype {kv_dtype} with --dtype {dtype} needs the native CPU kernels"
        )
    per_token = (
        2 * config.num_layers * config.num_kv_heads * config.head_dim * DTYPE_BYTES[kv_dtype]
    )
    per_block = per_token * settings.block_size
    weight_bytes = config.num_parameters * size
    if keep_packed and packed is not None and native:
        weight_bytes = packed.num_bytes
    elif native and config.tie_word_embeddings:
        weight_bytes += config.vocab_size * config.hidden_size * size  # rows, and laid out as head
    elif cuda and weight_file_bytes is not None:
        embedding_bytes = config.vocab_size * config.hidden_size * size  # never packed
        weight_bytes = min(weight_bytes, weight_file_bytes + embedding_bytes)
    activation_size = DTYPE_BYTES["float32"] if native else size
    activation_bytes = _activation_bytes(config, budget, max_num_seqs, activation_size)
    free_bytes = free_memory(device)
    other_bytes = weight_bytes + activation_bytes
    if cuda:
        other_bytes += GPU_CONTEXT_BYTES + int(free_bytes * GPU_GRAPHS_SHARE)
    kv_bytes, sized_by = _kv_budget(settings, device, free_bytes, other_bytes)
    num_blocks = settings.num_blocks if settings.num_blocks is not None else kv_bytes // per_block
    if settings.num_blocks is not None:
        sized_by = "--num-blocks"
    if num_blocks < 2:
        raise ConfigurationError(
            f"no room for KV blocks: {_gib(free_bytes)} are free on {device}, weights take "
            f"{_gib(weight_bytes)}, activations {_gib(activation_bytes)}, and the smallest cache "
            f"is 2 blocks of {per_block:,} bytes ({sized_by}); free memory, or give "
            "--kv-cache-memory or a smaller --dtype"
        )
    if num_blocks * per_block > free_bytes:
        raise ConfigurationError(
            f"the KV cache of {_gib(num_blocks * per_block)} (by {sized_by}) is larger than the "
            f"{_gib(free_bytes)} free on {device}; at most {free_bytes // per_block:,} blocks fit"
        )

    longest = (num_blocks - 1) * settings.block_size
    model_max_len = config.max_position_embeddings
    memory_share = _memory_share(settings) if cuda else None
    # A GPU's blocks are counted anew once its memory is measured, and may turn out fewer.
    sure = longest if memory_share is None else max(1, int(longest * SURE_SHARE))
    max_model_len = settings.max_model_len or min(model_max_len, sure)
    if max_model_len > model_max_len:
        raise ConfigurationError(
            f"--max-model-len {max_model_len} is longer than the model's context of {model_max_len}"
        )
    if max_model_len > longest:
        raise ConfigurationError(
            f"--max-model-len {max_model_len} does not fit: the KV cache of {num_blocks - 1:,} "
            f"blocks (by {sized_by}) holds {longest:,} tokens; use --max-model-len "
            f"{min(longest, model_max_len)} or give --kv-cache-memory "
            f"{_gib(per_token * max_model_len + per_block)}"
        )
    threshold = settings.long_prefill_token_threshold
    engine_config = EngineConfig(
        model_path=model_path,
        device=device,
        dtype=dtype,
        kv_dtype=kv_dtype,
        keep_packed=keep_packed,
        block_size=settings.block_size,
        num_blocks=num_blocks,
        memory_share=memory_share,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        long_prefill_token_threshold=max(1, budget // 2) if threshold is None else threshold,
        enable_prefix_caching=settings.enable_prefix_caching,
        scheduling_policy=settings.scheduling_policy,
        enforce_eager=settings.enforce_eager,
        deterministic=settings.deterministic,
        async_scheduling=cuda if settings.async_scheduling is None else settings.async_scheduling,
        num_threads=settings.num_threads or usable_cores(),
        block_life_sample=settings.kv_cache_metrics_sample if settings.kv_cache_metrics else 0.0,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    plan = MemoryPlan(
        device=device,
        dtype=dtype,
        free_bytes=free_bytes,
        weight_bytes=weight_bytes,
        activation_bytes=activation_bytes,
        kv_bytes=num_blocks * per_block,
        kv_bytes_per_token=per_token,
        block_size=settings.block_size,
        num_blocks=num_blocks,
        sized_by=sized_by,
        max_model_len=max_model_len,
        model_max_len=model_max_len,
    )
    return engine_config, plan


def _kv_dtype(wanted: str, dtype: str, device: str, keep_packed: bool) -> str:
    if wanted == "fp8":
        if device != "cuda":
            raise ConfigurationError(
                f"--kv-cache-dtype fp8 needs a GPU, and the device is {device}"
            )
        return "float8_e4m3fn"
    if wanted == "auto":
        # Beside weights of 4 or 8 bits, what bfloat16 rounds off keys and values is nothing.
        return "bfloat16" if keep_packed and device == "cpu" else dtype
    if device == "cuda" and wanted != dtype:
        raise ConfigurationError(f"--kv-cache-dtype {wanted} on a GPU needs --dtype {wanted}")
    return wanted


def _memory_share(settings: Settings) -> float | None:
    """The share of free memory to use, None if the cache has a size of its own."""
    if settings.kv_cache_memory is not None or settings.num_blocks is not None:
        return None
    return settings.gpu_memory_utilization or DEFAULT_UTILIZATION


def _kv_budget(
    settings: Settings, device: str, free_bytes: int, other_bytes: int
) -> tuple[int, str]:
    if settings.kv_cache_memory is not None:
        return settings.kv_cache_memory, "--kv-cache-memory"
    share = settings.gpu_memory_utilization or DEFAULT_UTILIZATION
    room = max(0, int(free_bytes * share) - other_bytes)
    if settings.gpu_memory_utilization is None and device == "cpu":
        return min(room, DEFAULT_CPU_KV_BYTES), "default for CPU"
    return room, f"--gpu-memory-utilization {share}"


def _activation_bytes(config: "ModelConfig", tokens: int, sequences: int, size: int) -> int:
    """Rough peak of a step: the widest layer's inputs and outputs, and float32 logits thrice."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    per_token = 4 * config.hidden_size + 3 * config.intermediate_size + 2 * heads
    return tokens * per_token * size + 3 * sequences * config.vocab_size * 4


def _gib(num_bytes: int) -> str:
    return (
        f"{num_bytes / 1024**3:,.2f} GiB"
        if num_bytes >= 1024**3
        else f"{num_bytes / 1024**2:,.1f} MiB"
    )
