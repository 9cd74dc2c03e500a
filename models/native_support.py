"""What the native CPU kernels take, and the memory it needs; imports no torch, for planning."""

import math
from dataclasses import dataclass

from .config import ModelConfig
from .resolve import ModelFiles

MAX_HEAD_DIM = 256
"""MAX_HEAD_DIM of kernels/cpu/native/octavo.h."""
PACKABLE_KINDS = frozenset({"Q4_0", "Q4_1", "Q8_0"})
"""Names of GGUF's kinds that kernels read as they are; weights of others become dense."""


@dataclass(frozen=True)
class PackedSize:
    """What the native CPU kernels hold of a GGUF file whose packable weights stay packed."""

    num_packable: int
    num_bytes: int


def packed_size(files: ModelFiles, config: ModelConfig) -> PackedSize | None:
    """None if the model is no GGUF file. Weights of other kinds become float32.

    A tied embedding counts twice: its rows are looked up, and as the head it is laid out anew.
    """
    if files.kind != "gguf":
        return None
    # Imported here: models of other files do without the package that it needs.
    from .gguf_file import GGUFFile

    num_packable = num_bytes = 0
    for tensor in GGUFFile(files.path).tensors:
        is_packable = tensor.kind.name in PACKABLE_KINDS
        size = tensor.num_bytes if is_packable else math.prod(tensor.shape) * 4
        copies = 2 if tensor.name == "token_embd.weight" and config.tie_word_embeddings else 1
        num_packable += is_packable
        num_bytes += size * copies
    return PackedSize(num_packable, num_bytes)
