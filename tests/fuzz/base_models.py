"""Tiny sound models in files, from which broken ones are made: GGUF and safetensors."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER, LAYERS = 2, 1, 16, 32, 64, 1
SPECIAL_TOKENS = ("<|start|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_SHAPES = {
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
_HF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_base_models(folder: Path) -> dict[str, Path]:
    """Write every kind. The values are what to give to `octavo serve`; each loads."""
    dense, packed = folder / "dense.gguf", folder / "packed.gguf"
    _write_gguf(dense, _byte_level_vocabulary(), quantised=False)
    _write_gguf(packed, _sentence_piece_vocabulary(), quantised=True)
    single, sharded = folder / "single", folder / "sharded"
    write_folder(single)
    write_folder(sharded, num_shards=2)
    return {"dense": dense, "packed": packed, "single": single, "sharded": sharded}


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def _byte_level_vocabulary() -> dict[str, Any]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL_TOKENS, *alphabet, "ab", "abc"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, *[1] * (len(tokens) - 2)],
        "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _sentence_piece_vocabulary() -> dict[str, Any]:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", *SPECIAL_TOKENS, *bytes_, "▁", "a", "b", "ab", "▁ab"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * 5],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _write_gguf(path: Path, vocabulary: dict[str, Any], *, quantised: bool) -> None:
    rng = np.random.default_rng(11)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(2.0)
    for key, value in vocabulary.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    size = len(vocabulary["tokenizer.ggml.tokens"])
    shapes = {"token_embd": (size, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes.update({f"blk.{layer}.{part}": shape for part, shape in _SHAPES.items()})
    kinds = (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0)
    for number, (name, shape) in enumerate(shapes.items()):
        tensor = _random(rng, shape)
        if quantised and len(shape) == 2:
            kind = kinds[number % len(kinds)]
            data = gguf.quants.quantize(tensor, kind)
            writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_folder(folder: Path, *, num_shards: int = 1, context_length: int = 128) -> None:
    """A Llama in safetensors with one token a byte and two special ones, quick to compute."""
    folder.mkdir()
    rng = np.random.default_rng(12)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = len(alphabet) + len(SPECIAL_TOKENS)
    tensors = {
        "model.embed_tokens.weight": _random(rng, (size, HIDDEN)),
        "model.norm.weight": _random(rng, (HIDDEN,)),
    }
    for layer in range(LAYERS):
        for part, shape in _SHAPES.items():
            name = f"model.layers.{layer}.{_HF_NAMES[part]}.weight"
            tensors[name] = _random(rng, shape).astype(np.float16 if len(shape) == 2 else "f4")
    if num_shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        _write_shards(folder, tensors, num_shards)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": size,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "max_position_embeddings": context_length,
        "tie_word_embeddings": True,
        "bos_token_id": len(alphabet),
        "eos_token_id": [len(alphabet) + 1],
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.7, "top_k": 5}))
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {"bos_token": "<|start|>", "eos_token": "<|end|>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _write_shards(folder: Path, tensors: dict[str, NDArray[Any]], num_shards: int) -> None:
    weight_map = {}
    for number in range(num_shards):
        file = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        names = list(tensors)[number::num_shards]
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
