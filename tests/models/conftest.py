"""Tiny models in files: GGUF through gguf's writer, safetensors through transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER, LAYERS, VOCAB = 4, 2, 8, 32, 64, 2, 64

MakeGGUF = Callable[..., Path]


@pytest.fixture
def make_gguf(tmp_path: Path) -> MakeGGUF:
    """Write a tiny GGUF model: `make_gguf(arch, tensors=…, metadata=…, leave_out=…)`."""

    def make(
        arch: str = "llama",
        *,
        tensors: dict[str, NDArray[Any]] | None = None,
        quantise: dict[str, gguf.GGMLQuantizationType] | None = None,
        metadata: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        name: str = "tiny.gguf",
    ) -> Path:
        path = tmp_path / name
        values: dict[str, Any] = {
            f"{arch}.block_count": LAYERS,
            f"{arch}.context_length": 128,
            f"{arch}.embedding_length": HIDDEN,
            f"{arch}.feed_forward_length": INNER,
            f"{arch}.attention.head_count": HEADS,
            f"{arch}.attention.head_count_kv": KV_HEADS,
            f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
            **(metadata or {}),
        }
        writer = gguf.GGUFWriter(path, arch)
        for key, value in values.items():
            if key not in leave_out and value is not None:
                _add_value(writer, key, value)
        for tensor_name, tensor in (tiny_tensors() if tensors is None else tensors).items():
            kind = (quantise or {}).get(tensor_name)
            writer.add_tensor(
                tensor_name,
                tensor if kind is None else gguf.quants.quantize(tensor, kind),
                raw_dtype=kind,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def _add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def tiny_tensors() -> dict[str, NDArray[np.float32]]:
    """Random weights under GGUF's names."""
    rng = np.random.default_rng(3)

    def random(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    tensors = {
        "token_embd.weight": random(VOCAB, HIDDEN),
        "output_norm.weight": random(HIDDEN),
    }
    for layer in range(LAYERS):
        shapes = {
            "attn_norm": (HIDDEN,),
            "attn_q": (HEADS * HEAD_DIM, HIDDEN),
            "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_output": (HIDDEN, HEADS * HEAD_DIM),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
        }
        for part, shape in shapes.items():
            tensors[f"blk.{layer}.{part}.weight"] = random(*shape)
    return tensors


BYTE_LEVEL_VOCABULARY: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["<|end|>", "a", "b", "c", "Ġ", "ab", "abc", "Ġab", "<extra>", "1"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 1, 1, 4, 1],
    "tokenizer.ggml.merges": ["a b", "ab c", "Ġ ab"],
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.chat_template": "{{ messages }}",
}


@pytest.fixture
def save_checkpoint(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Save a tiny seeded transformers model: `save_checkpoint(config, **save_options)`."""

    def save(config: Any, **options: Any) -> tuple[Path, Any]:
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        folder = tmp_path / "checkpoint"
        model.save_pretrained(folder, **options)
        return folder, model

    return save
