import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from octavo.models.config import ModelConfig, load_config
from octavo.models.decoder import rotary_frequencies
from octavo.models.errors import ModelError, ModelFormatError, UnsupportedModelError
from octavo.models.resolve import ModelFiles

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
}
OPTIONAL = (
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "num_key_value_heads",
    "partial_rotary_factor",
    "quantization_config",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
)
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def read(folder: Path, raw: object) -> ModelConfig:
    text = raw if isinstance(raw, str) else json.dumps(raw)
    (folder / "config.json").write_text(text)
    return load_config(ModelFiles("tiny", "safetensors", folder, ()))


def read_saved(folder: Path, config: Any) -> ModelConfig:
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config.save_pretrained(folder)
    return load_config(ModelFiles("tiny", "safetensors", folder, ()))


def test_plain_llama_takes_the_documented_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, LLAMA)
    assert config.architecture == "llama"
    assert (config.num_kv_heads, config.head_dim, config.rope_theta) == (8, 8, 10000.0)
    assert config.windows == (0, 0, 0, 0)
    assert not (config.tie_word_embeddings or config.qkv_bias or config.qk_norm)
    assert config.rope_scaling is None
    assert config.eos_token_ids == ()


@pytest.mark.parametrize("key", sorted(LLAMA))
def test_missing_key_is_named_with_its_file(tmp_path: Path, key: str) -> None:
    raw = {name: value for name, value in LLAMA.items() if name != key}
    with pytest.raises(ModelFormatError, match=f"config.json: the key '{key}' is missing"):
        read(tmp_path, raw)


def test_unknown_architecture_is_named_with_what_is_supported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"MambaForCausalLM.*LlamaForCausalLM"):
        read(tmp_path, {**LLAMA, "architectures": ["MambaForCausalLM"]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": "64"},
        {"hidden_size": None},
        {"hidden_size": 64.5},
        {"num_hidden_layers": 2**40},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -1},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 3},
        {"vocab_size": 2**60},
        {"vocab_size": True},
        {"head_dim": 7},
        {"rms_norm_eps": math.nan},
        {"rms_norm_eps": -1.0},
        {"rope_theta": math.inf},
        {"rope_theta": 0},
        {"rope_theta": 10**400},
        {"rope_scaling": "yarn"},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"type": "linear", "factor": 0}},
        {"rope_scaling": {"type": "linear", "factor": "2"}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": {"type": "yarn", "factor": -2.0}},
        {"eos_token_id": "2"},
        {"eos_token_id": [1, None]},
        {"tie_word_embeddings": "yes"},
        {"architectures": []},
        {"architectures": "LlamaForCausalLM"},
    ],
)
def test_wrong_value_is_a_format_error(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelFormatError, match=r"config\.json: "):
        read(tmp_path, {**LLAMA, **wrong})


@pytest.mark.parametrize(
    "variant",
    [
        {"hidden_act": "gelu"},
        {"partial_rotary_factor": 0.5},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        {"quantization_config": {"quant_method": "awq"}},
        {"quantization_config": "awq"},
    ],
)
def test_unsupported_variant_is_refused(tmp_path: Path, variant: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"config\.json: .*support"):
        read(tmp_path, {**LLAMA, **variant})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\udcff"])
def test_file_that_is_no_json_object_is_a_format_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelFormatError, match=r"config\.json: not"):
        load_config(ModelFiles("tiny", "safetensors", tmp_path, ()))


@pytest.mark.parametrize("key", sorted({*LLAMA, *OPTIONAL}))
@pytest.mark.parametrize("value", [None, True, -1, 0, 1, 2**70, 1e308, "x", [], [1], {}, {"a": 1}])
def test_no_value_escapes_the_model_errors(tmp_path: Path, key: str, value: object) -> None:
    with contextlib.suppress(ModelError):
        read(tmp_path, {**LLAMA, key: value})


def test_llama_biases(tmp_path: Path) -> None:
    config = read(tmp_path, {**LLAMA, "attention_bias": True, "mlp_bias": True})
    assert config.qkv_bias and config.o_bias and config.mlp_bias


def test_mistral_window_holds_for_every_layer(tmp_path: Path) -> None:
    config = read_saved(tmp_path, transformers.MistralConfig(**SIZES, sliding_window=100))
    assert config.architecture == "mistral"
    assert config.windows == (100,) * 4
    assert not config.qkv_bias


def test_mistral_without_window_sees_everything(tmp_path: Path) -> None:
    raw = {**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": None}
    assert read(tmp_path, raw).windows == (0,) * 4


def test_qwen2_has_qkv_bias_and_no_window_unless_asked(tmp_path: Path) -> None:
    config = read_saved(tmp_path, transformers.Qwen2Config(**SIZES, sliding_window=100))
    assert config.qkv_bias and not config.o_bias
    assert config.windows == (0,) * 4


def test_qwen2_window_holds_above_max_window_layers(tmp_path: Path) -> None:
    raw = {
        **LLAMA,
        "architectures": ["Qwen2ForCausalLM"],
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 3,
    }
    assert read(tmp_path, raw).windows == (0, 0, 0, 16)
    saved = transformers.Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=16, max_window_layers=3
    )
    assert read_saved(tmp_path, saved).windows == (0, 0, 0, 16)


def test_layer_types_say_which_layers_have_the_window(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    saved = transformers.Qwen3Config(
        **SIZES, use_sliding_window=True, sliding_window=16, layer_types=kinds, head_dim=16
    )
    config = read_saved(tmp_path, saved)
    assert config.windows == (16, 0, 0, 16)
    assert config.qk_norm and config.head_dim == 16


def test_end_tokens_may_be_one_or_several(tmp_path: Path) -> None:
    assert read(tmp_path, {**LLAMA, "eos_token_id": 2}).eos_token_ids == (2,)
    assert read(tmp_path, {**LLAMA, "eos_token_id": [2, 3]}).eos_token_ids == (2, 3)


def test_number_of_parameters_is_that_of_transformers(tmp_path: Path) -> None:
    for config in (
        transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, attention_bias=True),
        transformers.LlamaConfig(**SIZES, mlp_bias=True),
        transformers.Qwen2Config(**SIZES),
        transformers.Qwen3Config(**SIZES, head_dim=16),
    ):
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        expected = sum(parameter.numel() for parameter in model.parameters())
        assert read_saved(tmp_path, config).num_parameters == expected


ROPES: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 5000.0},
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 1000000.0,
        "factor": 2.0,
        "original_max_position_embeddings": 2048,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "truncate": False,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.8,
        "original_max_position_embeddings": 1024,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "attention_factor": 1.25,
        "original_max_position_embeddings": 1024,
    },
]


@pytest.mark.parametrize("style", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope["rope_type"])
def test_rotary_frequencies_are_those_of_transformers(
    tmp_path: Path, rope: dict[str, Any], style: str
) -> None:
    reference = transformers.LlamaConfig(**{**SIZES, "head_dim": 64}, rope_parameters=rope)
    if style == "rope_parameters":  # transformers 5
        config = read_saved(tmp_path, reference)
    else:  # transformers 4
        old = {key: value for key, value in rope.items() if key != "rope_theta"}
        raw = {**LLAMA, **SIZES, "head_dim": 64, "rope_theta": rope["rope_theta"]}
        config = read(tmp_path, {**raw, "rope_scaling": old})
    frequencies, factor = rotary_frequencies(config)
    if rope["rope_type"] == "default":
        expected, expected_factor = 5000.0 ** -(torch.arange(0, 64, 2) / 64), 1.0
    else:
        expected, expected_factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](reference, "cpu")
    assert factor == pytest.approx(expected_factor, rel=1e-12)
    torch.testing.assert_close(frequencies, expected, rtol=1e-6, atol=0)


def test_yarn_without_factor_takes_it_from_the_context_lengths(tmp_path: Path) -> None:
    rope = {"type": "yarn", "original_max_position_embeddings": 512}
    scaling = read(tmp_path, {**LLAMA, "rope_scaling": rope}).rope_scaling
    assert scaling is not None
    assert scaling.factor == 4.0
