"""Models of known shapes with random weights, made where they are to run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from harness import Bench
from torch import Tensor

from octavo.kernels import Operations
from octavo.models.config import ModelConfig
from octavo.models.decoder import Decoder
from octavo.models.gpu_runner import GpuRunner
from octavo.paged_cache.kv_layout import KVLayout
from octavo.paged_cache.kv_tensors import KVCache

BLOCK_SIZE = 16


def model_config(
    architecture: str,
    *,
    vocab: int,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    tied: bool,
) -> ModelConfig:
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=inner,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        rope_scaling=None,
        max_position_embeddings=40_960,
        tie_word_embeddings=tied,
        qkv_bias=False,
        o_bias=False,
        mlp_bias=False,
        qk_norm=architecture == "qwen3",
        windows=(0,) * layers,
        bos_token_id=None,
        eos_token_ids=(),
        dtype="bfloat16",
    )


LLAMA_8B = model_config(
    "llama", vocab=128_256, hidden=4096, inner=14_336, layers=32, heads=32, kv_heads=8,
    head_dim=128, tied=False,
)  # fmt: skip
QWEN_600M = model_config(
    "qwen3", vocab=151_936, hidden=1024, inner=3072, layers=28, heads=16, kv_heads=8,
    head_dim=128, tied=True,
)  # fmt: skip
TINY = model_config(
    "qwen3", vocab=128, hidden=32, inner=48, layers=1, heads=4, kv_heads=2, head_dim=16, tied=True,
)  # fmt: skip


@dataclass(frozen=True)
class RandomModel:
    """A decoder and the bytes of weights that a decode step reads."""

    name: str
    decoder: Decoder
    weight_bytes: int


def model_dtype(bench: Bench) -> torch.dtype:
    """bfloat16; float32 for the interpreter, whose bfloat16 differs from torch's."""
    return torch.bfloat16 if bench.on_gpu else torch.float32


def parameter_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Of all matrices but an embedding that is only looked up in."""
    attention = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    layer = config.hidden_size * (attention + 3 * config.intermediate_size)
    head = config.vocab_size * config.hidden_size
    return (layer * config.num_layers + head) * dtype.itemsize


def kv_bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
    values = config.num_layers * 2 * config.num_kv_heads * config.head_dim
    return values * dtype.itemsize


def make_model(
    name: str,
    config: ModelConfig,
    bench: Bench,
    max_positions: int,
    tensors: Iterable[tuple[str, Tensor]] | None = None,
) -> RandomModel:
    """A decoder of these tensors, or of random ones."""
    dtype = model_dtype(bench)
    weight_bytes = parameter_bytes(config, dtype)
    bench.require_bytes(2.2 * weight_bytes if tensors is None else weight_bytes)
    decoder = Decoder(
        config,
        random_tensors(config, bench.device, dtype) if tensors is None else tensors,
        dtype=dtype,
        device=bench.device,
        max_positions=max_positions,
        operations=_operations(),
    )
    return RandomModel(name, decoder, weight_bytes)


def _operations() -> Operations:
    """Triton's kernels, on a CPU too: they run in the interpreter there."""
    from octavo.kernels.gpu import operations

    return operations


def random_tensors(
    config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Weights under their canonical names; norms are ones, matrices keep states near size 1."""
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.head_dim
    query, key = config.num_heads * width, config.num_kv_heads * width

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype) * shape[1] ** -0.5

    def ones(size: int) -> Tensor:
        return torch.ones(size, device=device, dtype=dtype)

    yield "model.embed_tokens.weight", matrix(config.vocab_size, hidden)
    yield "model.norm.weight", ones(hidden)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", matrix(config.vocab_size, hidden)
    for index in range(config.num_layers):
        layer = f"model.layers.{index}."
        yield layer + "input_layernorm.weight", ones(hidden)
        yield layer + "post_attention_layernorm.weight", ones(hidden)
        yield layer + "self_attn.q_proj.weight", matrix(query, hidden)
        yield layer + "self_attn.k_proj.weight", matrix(key, hidden)
        yield layer + "self_attn.v_proj.weight", matrix(key, hidden)
        yield layer + "self_attn.o_proj.weight", matrix(hidden, query)
        if config.qk_norm:
            yield layer + "self_attn.q_norm.weight", ones(width)
            yield layer + "self_attn.k_norm.weight", ones(width)
        yield layer + "mlp.gate_proj.weight", matrix(inner, hidden)
        yield layer + "mlp.up_proj.weight", matrix(inner, hidden)
        yield layer + "mlp.down_proj.weight", matrix(hidden, inner)


def make_runner(
    model: RandomModel,
    bench: Bench,
    *,
    num_blocks: int,
    max_num_seqs: int,
    max_model_len: int,
    max_num_batched_tokens: int,
    graph_sizes: list[int],
) -> GpuRunner:
    """A runner with a KV cache of random keys and values, warmed up."""
    config, dtype = model.decoder.config, model.decoder.dtype
    kv_bytes = num_blocks * BLOCK_SIZE * kv_bytes_per_token(config, dtype)
    bench.require_bytes(kv_bytes + 2**31)
    layout = KVLayout(
        config.num_layers,
        config.num_kv_heads,
        config.head_dim,
        BLOCK_SIZE,
        str(dtype).removeprefix("torch."),
    )
    cache = KVCache(layout, num_blocks, bench.device)
    for index in range(config.num_layers):
        for part in cache.layer(index):
            part.normal_()
    runner = GpuRunner(
        model.decoder,
        cache,
        device=bench.device,
        block_size=BLOCK_SIZE,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        max_num_batched_tokens=max_num_batched_tokens,
        graph_sizes=graph_sizes if bench.on_gpu else (),
    )
    runner.warm_up()
    return runner
