"""Tensors of a model under their canonical (Hugging Face) names, from safetensors or GGUF."""

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from gguf import GGMLQuantizationType
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..kernels import LinearWeight
from ..kernels.quantised import GGUFKind, from_gguf
from .config import ModelConfig
from .errors import ModelFormatError
from .fp8_checkpoint import join_scales
from .gguf_file import GGUFFile
from .gguf_header import StoredTensor
from .native_support import PACKABLE_KINDS
from .resolve import ModelFiles

# More readers than this wait for memory rather than for arithmetic, and each holds a whole tensor.
_READERS = 4

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


def read_tensors(
    files: ModelFiles,
    config: ModelConfig,
    *,
    keep_packed: bool = False,
    keep_embedding_packed: bool = False,
) -> Iterator[tuple[str, LinearWeight]]:
    """Each tensor of the model once, on the CPU, in its stored type (quantised ones in float32).

    With `keep_packed`, weights of linear layers stay as they are if they are Q4_0, Q4_1, Q8_0 or
    8-bit floats; with `keep_embedding_packed`, so does a GGUF file's embedding. Files are mapped,
    so a tensor's bytes are read when it is used. Raises ModelFormatError naming a truncated or
    corrupt file, UnsupportedModelError for a type that cannot be dequantised.
    """
    if files.kind == "gguf":
        kept = tuple(
            ending
            for ending, is_kept in (
                ("_proj.weight", keep_packed),
                ("lm_head.weight", keep_packed),
                ("embed_tokens.weight", keep_embedding_packed),
            )
            if is_kept
        )
        yield from _read_gguf(GGUFFile(files.path), config, kept)
    else:
        stored = chain.from_iterable(map(_read_safetensors, files.weight_files))
        yield from join_scales(stored, keep_packed)


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        stored: Any = safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise _unsound(path, error) from None
    with stored:
        for name in stored.keys():  # noqa: SIM118 - it is no mapping
            try:
                tensor = stored.get_tensor(name)
            except (SafetensorError, OSError, ValueError, RuntimeError) as error:
                raise _unsound(path, error) from None
            yield name, tensor


def _unsound(path: Path, error: Exception) -> ModelFormatError:
    return ModelFormatError(f"{path}: not a whole and sound safetensors file: {error}")


def _read_gguf(
    file: GGUFFile, config: ModelConfig, kept_packed: tuple[str, ...]
) -> Iterator[tuple[str, LinearWeight]]:
    """Tensors in the file's order, a few read ahead in threads (numpy lets go of the GIL).

    Those whose names end in one of `kept_packed` stay packed.
    """

    def read(item: tuple[str, StoredTensor]) -> tuple[str, LinearWeight]:
        name, stored = item
        if stored.kind.name in PACKABLE_KINDS and name.endswith(kept_packed):
            blocks = torch.from_numpy(file.rows(stored))  # [outputs, bytes of a row]
            blocks = _in_canonical_order(name, blocks, config)
            return name, from_gguf(blocks, cast(GGUFKind, stored.kind.name))
        return name, _in_canonical_order(name, _to_torch(file, stored), config)

    named = ((_canonical_name(stored.name), stored) for stored in file.tensors)
    wanted = ((name, stored) for name, stored in named if name is not None)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="weights") as readers:
        pending = deque(readers.submit(read, item) for item in islice(wanted, _READERS))
        while pending:
            result = pending.popleft().result()
            pending.extend(readers.submit(read, item) for item in islice(wanted, 1))
            yield result


def _canonical_name(name: str) -> str | None:
    """Hugging Face's name for a GGUF tensor, None for one that is not a weight."""
    if name in _GGUF_NAMES:
        return _GGUF_NAMES[name]
    if name.startswith("rope_"):
        return None  # divisors of rotary frequencies, part of the configuration
    match = _GGUF_LAYER.fullmatch(name)
    if match is None or match.group(2) not in _GGUF_LAYER_NAMES:
        return name  # the decoder will name it as unexpected
    layer, part, kind = match.groups()
    return f"model.layers.{layer}.{_GGUF_LAYER_NAMES[part]}.{kind}"


def _to_torch(file: GGUFFile, stored: StoredTensor) -> Tensor:
    tensor = torch.from_numpy(file.dequantise(stored))
    return tensor.view(torch.bfloat16) if stored.kind == GGMLQuantizationType.BF16 else tensor


def _in_canonical_order(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """Undo the converter's reordering of rotary rows, which it applies to the llama architecture.

    There rows of Q and K alternate between the two halves of a head; here, as in transformers, the
    first half comes whole, then the second. GGUF files of Mistral models are of that architecture.
    """
    if config.architecture != "llama":
        return tensor
    if ".q_proj." in name:
        heads = config.num_heads
    elif ".k_proj." in name:
        heads = config.num_kv_heads
    else:
        return tensor
    if tensor.dim() == 0 or tensor.shape[0] != heads * config.head_dim:
        return tensor  # the decoder will complain of the shape
    grouped = tensor.reshape(heads, config.head_dim // 2, 2, *tensor.shape[1:])
    return grouped.transpose(1, 2).reshape(tensor.shape)
