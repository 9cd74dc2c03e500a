"""Checkpoints in 8-bit floats: the format of compressed-tensors, with a scale for each output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from octavo.kernels.quantised import Fp8Weight, dense, quantise_fp8
from octavo.models.config import load_config
from octavo.models.errors import ModelFormatError, UnsupportedModelError
from octavo.models.resolve import resolve_model
from octavo.models.weights import read_tensors

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FP8_DYNAMIC = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "float", "dynamic": True},
        }
    },
}


def quantise(folder: Path) -> dict[str, Fp8Weight]:
    """Rewrite a plain checkpoint as compressed-tensors would. Returns what was written."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    written = {}
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = written[name] = quantise_fp8(tensors[name].float())
        tensors[name] = weight.values
        tensors[name + "_scale"] = weight.scales[:, None].contiguous()
    save_file(tensors, path)
    set_quantization(folder, FP8_DYNAMIC)
    return written


def set_quantization(folder: Path, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": value}))


def read(folder: Path, keep_packed: bool) -> dict[str, Any]:
    files = resolve_model(str(folder), folder)
    return dict(read_tensors(files, load_config(files), keep_packed=keep_packed))


def test_weights_and_scales_come_together(save_checkpoint: Callable[..., Any]) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    names = read(folder, False).keys()
    written = quantise(folder)
    assert len(written) == 7 * 2
    packed, plain = read(folder, True), read(folder, False)
    assert packed.keys() == plain.keys() == names
    for name, weight in written.items():
        assert isinstance(packed[name], Fp8Weight)
        assert torch.equal(packed[name].values.view(torch.uint8), weight.values.view(torch.uint8))
        assert torch.equal(packed[name].scales, weight.scales)
        assert torch.equal(plain[name], dense(weight))


def test_one_scale_may_hold_for_a_whole_weight(save_checkpoint: Callable[..., Any]) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    quantise(folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name + "_scale"] = torch.tensor([0.5])
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(read(folder, False)[name], tensors[name].float() * 0.5)


def test_a_weight_without_its_scale_is_named(save_checkpoint: Callable[..., Any]) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    quantise(folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    del tensors[name + "_scale"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"layers\.1\.mlp\.up_proj"):
        read(folder, False)


@pytest.mark.parametrize(
    "change",
    [
        {"quant_method": "awq"},
        {"config_groups": {}},
        {"config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "strategy": "group"}}}},
        {
            "config_groups": {
                "g": {
                    "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                    "input_activations": {"dynamic": False},
                }
            }
        },
    ],
)
def test_other_formats_are_refused(
    change: dict[str, Any], save_checkpoint: Callable[..., Any]
) -> None:
    folder, _ = save_checkpoint(transformers.LlamaConfig(**SIZES))
    set_quantization(folder, FP8_DYNAMIC | change)
    with pytest.raises(UnsupportedModelError, match="quantization"):
        read(folder, False)
