"""Tensors of a model under their canonical (Hugging Face) names, from safetensors or GGUF."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch
from torch import Tensor

from .config import ModelConfig
from .errors import ModelFormatError
from .gguf_file import GGUFFile, StoredTensor
from .resolve import ModelFiles

_READ_AHEAD = 8

_GGUF_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_GGUF_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GGUF_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def read_tensors(files: ModelFiles, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of the model once, on the CPU, in its stored type (quantised ones in float32).

    Raises ModelFormatError for a truncated or corrupt file.
    """
    if files.kind == "gguf":
        yield from _read_gguf(GGUFFile(files.path), config)
    else:
        yield from _read_safetensors(files)


def _read_safetensors(files: ModelFiles) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for path in files.weight_files:
        try:
            with safe_open(path, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - not a mapping
                    yield name, stored.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise ModelFormatError(f"{path}: not a sound safetensors file: {error}") from None


def _read_gguf(file: GGUFFile, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Dequantise ahead in threads (numpy lets go of the GIL), at most `_READ_AHEAD` tensors."""

    def read(item: tuple[str, StoredTensor]) -> tuple[str, Tensor]:
        name, stored = item
        return name, _canonical(name, _to_torch(file, stored), config)

    named = ((_canonical_name(stored.name), stored) for stored in file.tensors)
    wanted = iter([(name, stored) for name, stored in named if name is not None])
    with ThreadPoolExecutor(max_workers=2) as readers:
        pending = [readers.submit(read, item) for item in islice(wanted, _READ_AHEAD)]
        while pending:
            result = pending.pop(0).result()
            pending.extend(readers.submit(read, item) for item in islice(wanted, 1))
            yield result


def _canonical_name(name: str) -> str | None:
    """Hugging Face's name for a GGUF tensor, None for one that is not a weight."""
    if name in _GGUF_NAMES:
        return _GGUF_NAMES[name]
    if name.startswith("rope_"):
        return None
    match = _GGUF_LAYER.fullmatch(name)
    if match is None or match.group(2) not in _GGUF_LAYER_NAMES:
        return name  # the decoder will name it as unexpected
    layer, part, kind = match.groups()
    return f"model.layers.{layer}.{_GGUF_LAYER_NAMES[part]}.{kind}"


def _to_torch(file: GGUFFile, stored: StoredTensor) -> Tensor:
    values = file.dequantise(stored)
    if stored.type_name == "BF16":
        return torch.from_numpy(values.copy()).view(torch.bfloat16)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _canonical(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Undo the converter's reordering of rotary rows, which it applies to the llama architecture.

    There rows of Q and K alternate between the two halves of a head; here, as in transformers, the
    first half comes whole, then the second.
    """
    if config.architecture != "llama":
        return tensor
    if ".q_proj." in name:
        heads = config.num_heads
    elif ".k_proj." in name:
        heads = config.num_kv_heads
    else:
        return tensor
    rows = tensor.shape[0]
    if rows != heads * config.head_dim:
        return tensor  # the decoder will complain of the shape
    grouped = tensor.reshape(heads, config.head_dim // 2, 2, *tensor.shape[1:])
    return grouped.transpose(1, 2).reshape(tensor.shape)
