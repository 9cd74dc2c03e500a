"""One host-to-device copy a step: all small arrays of a step in one buffer.

The same names and sizes always lie at the same addresses on the device, which is what a captured
CUDA graph needs. The host has two buffers in turn, so that one can be filled while the other is
still on its way.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIGNMENT = 16  # bytes; what kernels assume of pointers
NUM_HOST_BUFFERS = 2


class StagingBuffer:
    """Host memory (pinned for a GPU) and device memory of `num_bytes` each."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._hosts = [
            torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._on_gpu)
            for _ in range(NUM_HOST_BUFFERS)
        ]
        self._copied: list[torch.cuda.Event | None] = [None] * NUM_HOST_BUFFERS
        self._device = torch.empty(num_bytes, dtype=torch.uint8, device=device)
        self._turn = 0

    def send(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """Copy the arrays to the device, in their own types. Returns them there by name.

        They are valid until the next call, in the order of the stream. Raises ValueError if they
        are larger than the buffer.
        """
        offsets, total = _offsets(arrays)
        if total > len(self._device):
            raise ValueError(f"{total:,} bytes to send, the buffer has {len(self._device):,}")
        self._turn = (self._turn + 1) % NUM_HOST_BUFFERS
        copied = self._copied[self._turn]
        if copied is not None:
            copied.synchronize()
        host = self._hosts[self._turn]
        bytes_of_host = host.numpy()
        for name, array in arrays.items():
            begin = offsets[name]
            bytes_of_host[begin : begin + array.nbytes] = (
                np.ascontiguousarray(array).view(np.uint8).reshape(-1)
            )
        self._device[:total].copy_(host[:total], non_blocking=True)
        if self._on_gpu:
            copied = self._copied[self._turn] = copied or torch.cuda.Event()
            copied.record()
        return {name: self._view(offsets[name], array) for name, array in arrays.items()}

    def _view(self, begin: int, array: NDArray[Any]) -> Tensor:
        dtype = getattr(torch, array.dtype.name)
        return self._device[begin : begin + array.nbytes].view(dtype).view(array.shape)


def _offsets(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, int], int]:
    """Where each array begins, and where the last ends."""
    offsets = {}
    end = 0
    for name, array in arrays.items():
        offsets[name] = end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, end
