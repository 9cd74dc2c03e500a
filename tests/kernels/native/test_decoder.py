"""The decoder in one native call against the same weights in plain torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.kernels import LinearWeight, plan_step, torch_operations
from octavo.kernels.cpu.operations import NativeOperations
from octavo.kernels.quantised import QuantisedWeight, dense, quantise_int4, quantise_int8
from octavo.models.config import ModelConfig
from octavo.models.decoder import Decoder
from octavo.models.native_decoder import NativeDecoder
from octavo.paged_cache.kv_layout import KVLayout
from octavo.paged_cache.kv_tensors import KVCache

LLAMA = ModelConfig(
    architecture="llama",
    vocab_size=67,
    hidden_size=64,
    intermediate_size=96,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    qkv_bias=False,
    o_bias=False,
    mlp_bias=False,
    qk_norm=False,
    windows=(0, 0, 0),
    bos_token_id=None,
    eos_token_ids=(),
    dtype="float32",
)
CONFIGS = {
    "llama": LLAMA,
    "llama, odd sizes, every bias": replace(
        LLAMA,
        hidden_size=37,
        intermediate_size=45,
        head_dim=6,
        tie_word_embeddings=False,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
    ),
    "qwen2": replace(LLAMA, architecture="qwen2", qkv_bias=True, num_kv_heads=3),
    "qwen3": replace(LLAMA, architecture="qwen3", qk_norm=True, head_dim=32, num_heads=4),
    "mistral": replace(LLAMA, architecture="mistral", windows=(24, 24, 0)),
}
MAX_POSITIONS = 320


def random_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Seeded weights of a size that keeps states about 1."""
    generator = torch.Generator().manual_seed(11)
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_heads * width, config.num_kv_heads * width
    tensors: dict[str, Tensor] = {}

    def add(name: str, *shape: int, has_bias: bool = False) -> None:
        values = torch.randn(*shape, generator=generator)
        is_norm = name.endswith("norm")
        tensors[f"{name}.weight"] = 1 + values * 0.1 if is_norm else values / shape[-1] ** 0.5
        if has_bias:
            tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.2

    add("model.embed_tokens", config.vocab_size, hidden)
    add("model.norm", hidden)
    if not config.tie_word_embeddings:
        add("lm_head", config.vocab_size, hidden)
    for index in range(config.num_layers):
        layer = f"model.layers.{index}."
        add(layer + "input_layernorm", hidden)
        add(layer + "post_attention_layernorm", hidden)
        add(layer + "self_attn.q_proj", heads, hidden, has_bias=config.qkv_bias)
        add(layer + "self_attn.k_proj", kv_heads, hidden, has_bias=config.qkv_bias)
        add(layer + "self_attn.v_proj", kv_heads, hidden, has_bias=config.qkv_bias)
        add(layer + "self_attn.o_proj", hidden, heads, has_bias=config.o_bias)
        add(layer + "mlp.gate_proj", inner, hidden, has_bias=config.mlp_bias)
        add(layer + "mlp.up_proj", inner, hidden, has_bias=config.mlp_bias)
        add(layer + "mlp.down_proj", hidden, inner, has_bias=config.mlp_bias)
        if config.qk_norm:
            add(layer + "self_attn.q_norm", width)
            add(layer + "self_attn.k_norm", width)
    return tensors


def make_native(
    config: ModelConfig,
    tensors: dict[str, Any],
    native: NativeOperations,
    dtype: torch.dtype = torch.float32,
) -> NativeDecoder:
    return NativeDecoder(
        config, tensors.items(), dtype=dtype, max_positions=MAX_POSITIONS, operations=native
    )


def make_plain(config: ModelConfig, tensors: dict[str, Any]) -> Decoder:
    return Decoder(
        config,
        tensors.items(),
        dtype=torch.float32,
        device=torch.device("cpu"),
        max_positions=MAX_POSITIONS,
        operations=torch_operations,
    )


# Query tokens and context of each sequence (0 tokens: it does not run): chunks, decodes, both.
STEPS = [
    [(17, 17), (1, 1), (40, 40)],
    [(30, 47), (0, 1), (1, 41)],
    [(1, 48), (1, 2), (1, 42)],
    [(250, 298), (3, 5), (1, 43)],
    [(1, 299), (1, 6), (1, 44)],
    [(1, 300), (0, 6), (0, 44)],
]
NUM_SEQS = 3


class Sequences:
    """Three sequences that run through STEPS in a cache of their own."""

    def __init__(self, decoder: Decoder, block_size: int, kv_dtype: str) -> None:
        config = decoder.config
        self.decoder = decoder
        self.block_size = block_size
        self.blocks = -(-MAX_POSITIONS // block_size)
        layout = KVLayout(
            config.num_layers, config.num_kv_heads, config.head_dim, block_size, kv_dtype
        )
        self.cache = KVCache(layout, NUM_SEQS * self.blocks + 1, torch.device("cpu"))
        for index in range(config.num_layers):
            for part in self.cache.layer(index):
                part.fill_(torch.nan)
        order = torch.randperm(NUM_SEQS * self.blocks, generator=torch.Generator().manual_seed(1))
        self.tables = (order.view(NUM_SEQS, -1) + 1).numpy()
        generator = torch.Generator().manual_seed(2)
        shape = (NUM_SEQS, MAX_POSITIONS)
        self.token_ids = torch.randint(0, config.vocab_size, shape, generator=generator)

    def run(self, lengths: list[tuple[int, int]], rows: Tensor | None = None) -> Tensor:
        """The step's states."""
        spans, token_ids, positions, slots = [], [], [], []
        for row, (length, context) in enumerate(lengths):
            if length == 0:
                continue
            where = np.arange(context - length, context)
            blocks = self.tables[row, where // self.block_size]
            spans.append((row, sum(map(len, positions)), length, context))
            positions.append(where)
            slots.append(blocks * self.block_size + where % self.block_size)
            token_ids.append(self.token_ids[row, where])
        return self.decoder.forward(
            torch.cat(token_ids),
            torch.from_numpy(np.concatenate(positions)),
            torch.from_numpy(np.concatenate(slots)),
            self._plan(np.array(spans)),
            self.cache,
            rows,
        )

    def _plan(self, spans: NDArray[np.int64]) -> Any:
        if isinstance(self.decoder, NativeDecoder):
            return self.decoder._native.plan(spans, self.tables, self.block_size)
        return plan_step(spans, self.tables, self.block_size, torch.device("cpu"))


def relative_error(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).norm() / expected.norm())


@pytest.mark.parametrize("block_size", [8, 16])
@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_plain_torch(
    native: NativeOperations, name: str, block_size: int
) -> None:
    config = CONFIGS[name]
    tensors = random_tensors(config)
    plain = Sequences(make_plain(config, tensors), block_size, "float32")
    fast = Sequences(make_native(config, tensors, native), block_size, "float32")
    for lengths in STEPS:
        expected, states = plain.run(lengths), fast.run(lengths)
        assert states.shape == expected.shape
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(
            fast.decoder.logits(states), plain.decoder.logits(expected), rtol=1e-4, atol=1e-4
        )


def test_some_rows_are_the_same_as_all(native: NativeOperations) -> None:
    tensors = random_tensors(LLAMA)
    every = Sequences(make_native(LLAMA, tensors, native), 16, "float32")
    some = Sequences(make_native(LLAMA, tensors, native), 16, "float32")
    rows = torch.tensor([16, 17, 57])
    assert torch.equal(some.run(STEPS[0], rows), every.run(STEPS[0])[rows])
    assert torch.equal(some.run(STEPS[1], torch.tensor([30])), every.run(STEPS[1])[30:])


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16"])
def test_a_sequence_does_not_depend_on_the_others(
    native: NativeOperations, kv_dtype: str, with_threads: Callable[[int], None]
) -> None:
    """To the bit: alone, in other chunks, and with other numbers of threads."""
    decoder = make_native(LLAMA, random_tensors(LLAMA), native)
    together = Sequences(decoder, 16, kv_dtype)
    states = [together.run(lengths) for lengths in STEPS]
    first = torch.cat([part[: lengths[0][0]] for part, lengths in zip(states, STEPS, strict=True)])
    for threads in (1, 2, 3):
        with_threads(threads)
        alone = Sequences(decoder, 16, kv_dtype)
        whole = alone.run([(300, 300)])
        assert torch.equal(whole, first), threads
        again = Sequences(decoder, 16, kv_dtype)
        decoded = [again.run([(270, 270)]), *(again.run([(1, n)]) for n in range(271, 301))]
        assert torch.equal(torch.cat(decoded), first), threads


def test_bfloat16_weights_are_read_as_they_are(native: NativeOperations) -> None:
    """Activations stay float32, so the plain decoder of the rounded weights in float32 is near."""
    config = CONFIGS["qwen2"]
    rounded = {name: tensor.bfloat16() for name, tensor in random_tensors(config).items()}
    plain = Sequences(make_plain(config, rounded), 16, "float32")
    fast = Sequences(make_native(config, rounded, native, torch.bfloat16), 16, "float32")
    for lengths in STEPS:
        torch.testing.assert_close(fast.run(lengths), plain.run(lengths), rtol=1e-4, atol=2e-5)


def test_a_bfloat16_cache_costs_its_rounding_only(native: NativeOperations) -> None:
    tensors = random_tensors(LLAMA)
    plain = Sequences(make_plain(LLAMA, tensors), 16, "float32")
    fast = Sequences(make_native(LLAMA, tensors, native), 16, "bfloat16")
    for lengths in STEPS:
        assert 1e-5 < relative_error(fast.run(lengths), plain.run(lengths)) < 0.01


@pytest.mark.parametrize("quantise", [quantise_int4, quantise_int8])
def test_packed_weights_are_near_the_dense_ones(
    native: NativeOperations, quantise: Callable[[Tensor], QuantisedWeight]
) -> None:
    """Of the same numbers; inputs of the products are rounded to 8 bits, half a step of 127."""
    packed: dict[str, LinearWeight] = {}
    for name, tensor in random_tensors(LLAMA).items():
        is_linear = name.endswith("_proj.weight") or "embed" in name
        packed[name] = quantise(tensor) if is_linear else tensor
    unpacked = {
        name: weight if isinstance(weight, Tensor) else dense(weight)
        for name, weight in packed.items()
    }
    fast = Sequences(make_native(LLAMA, packed, native), 16, "float32")
    slow = Sequences(make_native(LLAMA, unpacked, native), 16, "float32")
    for lengths in STEPS:
        result, expected = fast.run(lengths), slow.run(lengths)
        assert relative_error(result, expected) < 0.03
        logits = fast.decoder.logits(result)
        assert relative_error(logits, slow.decoder.logits(expected)) < 0.03


def test_another_cache_is_taken_up(native: NativeOperations) -> None:
    decoder = make_native(LLAMA, random_tensors(LLAMA), native)
    one, two = Sequences(decoder, 16, "float32"), Sequences(decoder, 8, "float32")
    expected = one.run(STEPS[0])
    assert torch.equal(two.run(STEPS[0]), expected)
    assert torch.equal(one.run(STEPS[1]), two.run(STEPS[1]))


def test_positions_beyond_the_tables_are_refused(native: NativeOperations) -> None:
    decoder = make_native(LLAMA, random_tensors(LLAMA), native)
    sequences = Sequences(decoder, 16, "float32")
    zero = torch.zeros(1, dtype=torch.int64)
    plan = native.plan(np.array([[0, 0, 1, 1]]), sequences.tables, 16)
    with pytest.raises(IndexError, match=f"position {MAX_POSITIONS} of {MAX_POSITIONS}"):
        decoder.forward(zero, zero + MAX_POSITIONS, zero, plan, sequences.cache)
