"""From a local model's files to a runner with its KV memory reserved."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from ..kernels import choose_operations, torch_operations
from ..kernels.cpu.operations import NativeOperations, open_operations
from ..paged_cache.kv_layout import KVLayout
from ..paged_cache.kv_tensors import KVCache
from .config import ModelConfig, load_config
from .decoder import Decoder
from .errors import ModelError
from .native_decoder import NativeDecoder, can_run
from .resolve import ModelFiles, resolve_model
from .runner import ModelRunner
from .step import Runner
from .weights import read_tensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerOptions:
    """What a runner is made with, besides the model's files.

    With `memory_share`, `num_blocks` is an estimate, and on a GPU with its kernels they are counted
    anew from what is measured to be free, of which that share may be used.
    """

    dtype: str
    kv_dtype: str
    keep_packed: bool  # weights that come as integers stay so, where kernels read them that way
    device: str
    block_size: int
    num_blocks: int
    memory_share: float | None
    max_num_seqs: int
    max_model_len: int
    max_num_batched_tokens: int
    enforce_eager: bool
    deterministic: bool


@dataclass(frozen=True)
class LoadedRunner:
    """A runner, its number of blocks, and what decides their content besides tokens.

    Token ids must be in [0, vocab_size).
    """

    runner: Runner
    num_blocks: int
    identity: bytes
    vocab_size: int


def load_runner(model_path: str, options: RunnerOptions) -> LoadedRunner:
    """Load a local model and reserve its KV memory.

    Raises ModelError for bad files, MemoryError (naming what to change) or torch's out-of-memory
    error.
    """
    files = resolve_model(model_path, Path())
    config = load_config(files)
    device = torch.device(options.device)
    layout = kv_layout(config, options.block_size, options.kv_dtype)
    if device.type == "cpu" and can_run(config, options.dtype, options.kv_dtype):
        native = open_operations()
        if native is not None:
            native_runner = _make_native_runner(files, config, layout, native, options)
            identity = _identity(files, options)
            return LoadedRunner(native_runner, options.num_blocks, identity, config.vocab_size)
    if device.type == "cpu" and (options.deterministic or options.kv_dtype != options.dtype):
        raise ModelError(
            "the native CPU kernels were planned with but cannot be loaded (the log says why): "
            f"reinstall Octavo, or give --dtype {options.dtype} --kv-cache-dtype {options.dtype} "
            "without --deterministic"
        )
    operations = choose_operations(device, options.deterministic)
    has_kernels = operations is not torch_operations
    free_before = torch.cuda.mem_get_info()[0] if has_kernels else 0
    decoder = Decoder(
        config,
        read_tensors(files, config, keep_packed=has_kernels),
        dtype=getattr(torch, options.dtype),
        device=device,
        max_positions=options.max_model_len,
        operations=operations,
    )
    runner: Runner
    num_blocks = options.num_blocks
    if has_kernels:
        runner, num_blocks = _make_gpu_runner(decoder, layout, options, free_before)
    else:
        runner = ModelRunner(
            decoder,
            KVCache(layout, num_blocks, device),
            device=device,
            block_size=options.block_size,
            max_num_seqs=options.max_num_seqs,
            max_model_len=options.max_model_len,
        )
    return LoadedRunner(runner, num_blocks, _identity(files, options), config.vocab_size)


def _identity(files: ModelFiles, options: RunnerOptions) -> bytes:
    parts = (files.path.resolve(), options.dtype, options.kv_dtype, options.keep_packed)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def _make_native_runner(
    files: ModelFiles,
    config: ModelConfig,
    layout: KVLayout,
    operations: NativeOperations,
    options: RunnerOptions,
) -> ModelRunner:
    packed = options.keep_packed
    decoder = NativeDecoder(
        config,
        read_tensors(files, config, keep_packed=packed, keep_embedding_packed=packed),
        dtype=getattr(torch, options.dtype),
        max_positions=options.max_model_len,
        operations=operations,
    )
    device = torch.device("cpu")
    return ModelRunner(
        decoder,
        KVCache(layout, options.num_blocks, device),
        device=device,
        block_size=options.block_size,
        max_num_seqs=options.max_num_seqs,
        max_model_len=options.max_model_len,
        plan=operations.plan,
        draw=decoder.draw,
        forbid=operations.forbid,
    )


def _make_gpu_runner(
    decoder: Decoder, layout: KVLayout, options: RunnerOptions, free_before: int
) -> tuple[Runner, int]:
    # Imported here: Triton is not everywhere.
    from .decode_graphs import graph_ladder
    from .gpu_memory import LEAST_GRAPHS_BYTES, measure_memory
    from .gpu_runner import GpuRunner

    device = torch.device(options.device)

    def make(num_blocks: int, graph_sizes: list[int], graph_bytes: int) -> GpuRunner:
        return GpuRunner(
            decoder,
            KVCache(layout, num_blocks, device),
            device=device,
            block_size=options.block_size,
            max_num_seqs=options.max_num_seqs,
            max_model_len=options.max_model_len,
            max_num_batched_tokens=options.max_num_batched_tokens,
            graph_sizes=graph_sizes,
            graph_bytes=graph_bytes,
            deterministic=options.deterministic,
        )

    is_eager = options.enforce_eager or options.deterministic
    sizes = [] if is_eager else graph_ladder(options.max_num_seqs)
    if options.memory_share is None:
        return make(options.num_blocks, sizes, LEAST_GRAPHS_BYTES), options.num_blocks
    trial = make(2, [], 0)  # padding needs the null block alone
    measured = measure_memory(free_before, options.memory_share, trial.compute_largest_step)
    logger.info("memory of the GPU as measured: %s", measured)
    num_blocks = measured.kv_cache // layout.bytes_per_block
    longest = (num_blocks - 1) * options.block_size
    if longest < options.max_model_len:
        raise MemoryError(
            f"the GPU holds {max(0, longest):,} tokens of context, fewer than --max-model-len "
            f"{options.max_model_len:,} ({measured}); give a smaller --max-model-len or "
            "--max-num-batched-tokens, or a larger --gpu-memory-utilization"
        )
    return make(num_blocks, sizes, measured.graphs), num_blocks


def kv_layout(config: ModelConfig, block_size: int, dtype: str) -> KVLayout:
    """The shape of a block for this model."""
    return KVLayout(config.num_layers, config.num_kv_heads, config.head_dim, block_size, dtype)
