"""An open GGUF file: metadata as a plain dict, tensors as numpy arrays, dequantised if need be."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from .errors import ModelFormatError, UnsupportedModelError, naming_file
from .gguf_header import GGUFHeader, StoredTensor, read_header

# numpy's temporaries stay in the processor's cache at this size, and Python's share is small.
_ELEMENTS_AT_ONCE = 1 << 18

_KEPT = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.BF16: np.int16,
}


@lru_cache(maxsize=1)
def _read_header(path: Path, size: int, changed_ns: int) -> GGUFHeader:
    """The file's header, kept: starting asks for it several times, and its vocabulary is long."""
    return read_header(np.memmap(path, dtype=np.uint8, mode="r").data)


class GGUFFile:
    """A GGUF file mapped into memory; its tensors' bytes are read when they are asked for.

    Raises ModelFormatError if it is not a whole and sound one, UnsupportedModelError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Copy on write: tensors that are kept in their type are handed out without a copy.
            self._data = np.asarray(np.memmap(path, dtype=np.uint8, mode="c"))
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            reason = error.strerror if isinstance(error, OSError) else None
            raise ModelFormatError(f"{path}: cannot be read: {reason or error}") from None
        stat = path.stat()
        with naming_file(path):
            header = _read_header(path, stat.st_size, stat.st_mtime_ns)
        self.metadata: dict[str, Any] = header.metadata
        self.tensors = header.tensors
        self._by_name = {tensor.name: tensor for tensor in header.tensors}

    def find(self, name: str) -> StoredTensor | None:
        """The tensor of this name, if there is one."""
        return self._by_name.get(name)

    def rows(self, tensor: StoredTensor) -> NDArray[np.uint8]:
        """The tensor's bytes as they are stored: [rows, bytes of a row], of a shape [rows, …]."""
        raw = self._data[tensor.begin : tensor.begin + tensor.num_bytes]
        return raw.reshape(tensor.shape[0], -1)

    def dequantise(self, tensor: StoredTensor) -> NDArray[Any]:
        """The tensor's values as float32; F16 and F32 in their own type, BF16 as bits in int16.

        Raises UnsupportedModelError for a type that cannot be dequantised.
        """
        raw = self._data[tensor.begin : tensor.begin + tensor.num_bytes]
        kept = _KEPT.get(tensor.kind)
        if kept is not None:
            return raw.view(kept).reshape(tensor.shape)
        try:
            return _dequantise(raw, tensor.kind).reshape(tensor.shape)
        except NotImplementedError:
            raise UnsupportedModelError(
                f"{self.path}: tensor {tensor.name!r} is of type {tensor.kind.name}, which cannot "
                "be dequantised"
            ) from None


def _dequantise(raw: NDArray[np.uint8], kind: GGMLQuantizationType) -> NDArray[np.float32]:
    """Blocks of a quantised type [bytes] to values [elements]."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    values = np.empty(raw.size // block_bytes * block_size, dtype=np.float32)
    stride = _ELEMENTS_AT_ONCE // block_size
    for block in range(0, raw.size // block_bytes, stride):
        some = raw[block * block_bytes : (block + stride) * block_bytes]
        begin = block * block_size
        values[begin : begin + stride * block_size] = gguf.quants.dequantize(some, kind)
    return values
