"""How many bytes a GGUF file's weights take in memory, read from its header; imports no torch."""

import math
from dataclasses import dataclass

from gguf import GGMLQuantizationType

from .config import ModelConfig
from .gguf_file import GGUFFile
from .resolve import ModelFiles

PACKABLE_KINDS = frozenset(
    {GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0}
)
"""Kinds that kernels read as they are; weights of other kinds become dense when loaded."""


@dataclass(frozen=True)
class PackedSize:
    """What the native CPU kernels hold of a GGUF file whose packable weights stay packed."""

    num_packable: int
    num_bytes: int


def packed_size(files: ModelFiles, config: ModelConfig, element_bytes: int) -> PackedSize | None:
    """None if the model is no GGUF file. Dense weights take `element_bytes` an element.

    A tied embedding counts twice: its rows are looked up, and as the head it is laid out anew.
    """
    if files.kind != "gguf":
        return None
    num_packable = num_bytes = 0
    for tensor in GGUFFile(files.path).tensors:
        is_packable = tensor.kind in PACKABLE_KINDS
        size = tensor.num_bytes if is_packable else math.prod(tensor.shape) * element_bytes
        copies = 2 if tensor.name == "token_embd.weight" and config.tie_word_embeddings else 1
        num_packable += is_packable
        num_bytes += size * copies
    return PackedSize(num_packable, num_bytes)
