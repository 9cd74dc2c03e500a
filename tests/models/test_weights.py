import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from octavo.models.config import load_config
from octavo.models.errors import ModelError, ModelFormatError
from octavo.models.resolve import ModelFiles, resolve_model
from octavo.models.weights import read_tensors

from .conftest import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, MakeGGUF, tiny_tensors

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Save = Callable[..., tuple[Path, Any]]


def tensors_of(files: ModelFiles) -> dict[str, torch.Tensor]:
    return dict(read_tensors(files, load_config(files)))


def tensors_in(path: Path) -> dict[str, torch.Tensor]:
    return tensors_of(resolve_model(str(path), path.parent))


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "60KB"}], ids=["single", "sharded"])
def test_safetensors_come_back_in_their_own_type(
    save_checkpoint: Save, options: dict[str, Any]
) -> None:
    folder, model = save_checkpoint(transformers.Qwen2Config(**SIZES), **options)
    files = resolve_model(str(folder), folder)
    assert (len(files.weight_files) > 1) == bool(options)
    tensors = tensors_of(files)
    expected = model.state_dict()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_truncated_safetensors_is_named(save_checkpoint: Save) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 1, 7, 8, 100, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFormatError, match=r"model\.safetensors: not a whole"):
            tensors_in(folder)


def test_flipped_bytes_in_a_safetensors_header_raise_nothing_but_model_errors(
    save_checkpoint: Save,
) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(2)
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[rng.randrange(head)] = rng.randrange(256)
        path.write_bytes(flipped)
        with contextlib.suppress(ModelError):
            tensors_in(folder)


def test_index_that_names_a_missing_file_is_an_error(save_checkpoint: Save) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES), max_shard_size="60KB")
    gone = sorted(folder.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelFormatError, match=rf"1 weight files are missing: {gone.name}"):
        resolve_model(str(folder), folder)


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "../b"}}',
     '{"weight_map": {"a": 3}}', '{"weight_map": {"a": {}}}'],
)  # fmt: skip
def test_unsound_index_is_a_format_error(tmp_path: Path, index: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelFormatError, match=r"index\.json: "):
        resolve_model(str(tmp_path), tmp_path)


def interleaved(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """What the converter does to Q and K: rows i and i + d/2 of a head become neighbours."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def test_llama_gguf_has_its_rotary_rows_put_back(make_gguf: MakeGGUF) -> None:
    original = tiny_tensors()
    original["blk.0.attn_q.bias"] = np.arange(HEADS * HEAD_DIM, dtype=np.float32)
    converted = {
        name: interleaved(tensor, HEADS)
        if ".attn_q." in name
        else interleaved(tensor, KV_HEADS)
        if ".attn_k." in name
        else tensor
        for name, tensor in original.items()
    }
    tensors = tensors_in(make_gguf(tensors=converted))
    for layer in range(2):
        for ours, theirs in (("q_proj", "attn_q"), ("k_proj", "attn_k"), ("v_proj", "attn_v")):
            np.testing.assert_array_equal(
                tensors[f"model.layers.{layer}.self_attn.{ours}.weight"].numpy(),
                original[f"blk.{layer}.{theirs}.weight"],
            )
    np.testing.assert_array_equal(
        tensors["model.layers.0.self_attn.q_proj.bias"].numpy(), original["blk.0.attn_q.bias"]
    )


@pytest.mark.parametrize("arch", ["qwen2", "qwen3"])
def test_other_ggufs_have_their_rows_left_alone(make_gguf: MakeGGUF, arch: str) -> None:
    tensors = tensors_in(make_gguf(arch))
    expected = tiny_tensors()["blk.1.attn_q.weight"]
    np.testing.assert_array_equal(
        tensors["model.layers.1.self_attn.q_proj.weight"].numpy(), expected
    )


def test_gguf_names_become_those_of_hugging_face(make_gguf: MakeGGUF) -> None:
    norm = {f"blk.{i}.attn_{x}_norm.weight": np.ones(8, np.float32) for i in range(2) for x in "qk"}
    extra = {"output.weight": np.ones((64, HIDDEN), np.float32), **norm}
    tensors = tensors_in(make_gguf("qwen3", tensors={**tiny_tensors(), **extra}))
    config = transformers.Qwen3Config(**{**SIZES, "num_hidden_layers": 2}, head_dim=HEAD_DIM)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert tensors.keys() == model.state_dict().keys()


def test_divisors_of_rope_are_no_weights(make_gguf: MakeGGUF) -> None:
    divisors = {"rope_freqs.weight": np.ones(HEAD_DIM // 2, np.float32)}
    assert "rope_freqs.weight" not in tensors_in(make_gguf(tensors={**tiny_tensors(), **divisors}))


def test_sixteen_bit_types_are_kept_and_quantised_ones_become_float32(make_gguf: MakeGGUF) -> None:
    original = tiny_tensors()
    halves = original["blk.0.ffn_up.weight"].astype(np.float16)
    kinds = {
        "blk.0.ffn_gate.weight": gguf.GGMLQuantizationType.BF16,
        "blk.0.ffn_down.weight": gguf.GGMLQuantizationType.Q8_0,
    }
    tensors = tensors_in(
        make_gguf(tensors={**original, "blk.0.ffn_up.weight": halves}, quantise=kinds)
    )
    up = tensors["model.layers.0.mlp.up_proj.weight"]
    assert up.dtype == torch.float16
    np.testing.assert_array_equal(up.numpy(), halves)
    gate = tensors["model.layers.0.mlp.gate_proj.weight"]
    expected = torch.from_numpy(original["blk.0.ffn_gate.weight"]).to(torch.bfloat16)
    torch.testing.assert_close(gate, expected, rtol=0, atol=0)
    down = tensors["model.layers.0.mlp.down_proj.weight"]
    assert down.dtype == torch.float32
    torch.testing.assert_close(
        down, torch.from_numpy(original["blk.0.ffn_down.weight"]), rtol=0, atol=0.02
    )


def test_reader_may_be_left_early(make_gguf: MakeGGUF) -> None:
    files = resolve_model(str(make_gguf()), Path())
    tensors = read_tensors(files, load_config(files))
    assert next(tensors)[0] == "model.embed_tokens.weight"
    tensors.close()  # type: ignore[attr-defined]
