"""The memory that the blocks are: one tensor, reserved once."""

import numpy as np
import torch
from torch import Tensor

from .kv_layout import KVLayout

_SAME_WIDTH = {1: np.uint8, 2: np.int16, 4: np.int32}


class KVCache:
    """Keys and values of all blocks: [layers, 2, blocks, kv_heads, block_size, head_dim], zeroed.

    On a CPU the operating system hands out the pages as blocks are first written, so that a large
    cache costs no time at start; nothing is allocated afterwards either way. Raises torch's
    out-of-memory error or MemoryError.
    """

    def __init__(self, layout: KVLayout, num_blocks: int, device: torch.device) -> None:
        shape = layout.shape(num_blocks)
        dtype: torch.dtype = getattr(torch, layout.dtype)
        if device.type == "cpu":
            # numpy asks for zeroed pages (calloc); torch.zeros would write each of them now.
            bits = np.zeros(shape, dtype=_SAME_WIDTH[dtype.itemsize])
            self._tensor = torch.from_numpy(bits).view(dtype)
        else:
            self._tensor = torch.zeros(shape, dtype=dtype, device=device)
        self._layers = [(layer[0], layer[1]) for layer in self._tensor]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each [blocks, kv_heads, block_size, head_dim]."""
        return self._layers[index]
