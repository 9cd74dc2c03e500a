"""From a local model's files to a runner with its KV memory reserved."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ..kernels import choose_operations, torch_operations
from ..paged_cache.kv_layout import KVLayout
from ..paged_cache.kv_tensors import KVCache
from .config import ModelConfig, load_config
from .decoder import Decoder
from .resolve import resolve_model
from .runner import ModelRunner
from .step import Runner
from .weights import read_tensors


@dataclass(frozen=True)
class RunnerOptions:
    """What a runner is made with, besides the model's files."""

    dtype: str
    device: str
    block_size: int
    num_blocks: int
    max_num_seqs: int
    max_model_len: int
    max_num_batched_tokens: int
    enforce_eager: bool


def load_runner(model_path: str, options: RunnerOptions) -> tuple[Runner, bytes]:
    """Load a local model and reserve its KV memory.

    Returns the runner and what identifies the content of its blocks besides tokens. Raises
    ModelError for bad files, MemoryError or torch's out-of-memory error.
    """
    files = resolve_model(model_path, Path())
    config = load_config(files)
    device = torch.device(options.device)
    operations = choose_operations(device)
    decoder = Decoder(
        config,
        read_tensors(files, config, keep_packed=operations is not torch_operations),
        dtype=getattr(torch, options.dtype),
        device=device,
        max_positions=options.max_model_len,
        operations=operations,
    )
    cache = KVCache(
        kv_layout(config, options.block_size, options.dtype), options.num_blocks, device
    )
    runner: Runner
    if operations is torch_operations:
        runner = ModelRunner(
            decoder,
            cache,
            device=device,
            block_size=options.block_size,
            max_num_seqs=options.max_num_seqs,
            max_model_len=options.max_model_len,
        )
    else:
        from .decode_graphs import graph_ladder
        from .gpu_runner import GpuRunner

        runner = GpuRunner(
            decoder,
            cache,
            device=device,
            block_size=options.block_size,
            max_num_seqs=options.max_num_seqs,
            max_model_len=options.max_model_len,
            max_num_batched_tokens=options.max_num_batched_tokens,
            graph_sizes=() if options.enforce_eager else graph_ladder(options.max_num_seqs),
        )
    identity = hashlib.sha256(f"{files.path.resolve()}\0{options.dtype}".encode()).digest()
    return runner, identity


def kv_layout(config: ModelConfig, block_size: int, dtype: str) -> KVLayout:
    """The shape of a block for this model."""
    return KVLayout(config.num_layers, config.num_kv_heads, config.head_dim, block_size, dtype)
