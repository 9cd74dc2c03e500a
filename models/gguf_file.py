"""Reading GGUF files: metadata as a plain dict, tensors dequantised.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package reads it; its
reader keeps several objects for every element of an array, which takes seconds for a vocabulary, so
arrays are read here in one go. Nothing that a file says is believed before it is checked against
the file's size.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
from gguf.gguf_reader import GGUFReader, ReaderTensor
from numpy.typing import NDArray

from .errors import ModelFormatError

_STRING = gguf.GGUFValueType.STRING
_ARRAY = gguf.GGUFValueType.ARRAY


class StoredTensor(NamedTuple):
    """A tensor of the file: its name, its shape (row-major), and its bytes, not yet read."""

    name: str
    shape: tuple[int, ...]
    source: ReaderTensor

    @property
    def type_name(self) -> str:
        """GGML's name of the stored type, F32 or Q4_1 say."""
        return str(self.source.tensor_type.name)


class _Reader(GGUFReader):  # type: ignore[misc]
    """GGUFReader with arrays read as wholes; `arrays` holds their values by offset."""

    def __init__(self, path: Path) -> None:
        self.arrays: dict[int, list[Any]] = {}
        super().__init__(path)

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[NDArray[Any]], list[int], list[gguf.GGUFValueType]]:
        if gguf.GGUFValueType(raw_type) != _ARRAY:
            parts: tuple[int, list[NDArray[Any]], list[int], list[gguf.GGUFValueType]]
            parts = super()._get_field_parts(orig_offs, raw_type)
            return parts
        kind = gguf.GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        begin = orig_offs + 12
        if kind == _STRING:
            values, end = _read_strings(self.data, begin, count)
        elif kind in self.gguf_scalar_to_np:
            dtype = np.dtype(self.gguf_scalar_to_np[kind])
            end = begin + dtype.itemsize * count
            if end > self.data.size:
                raise ValueError(f"an array of {count} elements exceeds the file")
            values = self._get(begin, dtype, count).tolist()
        else:
            raise ValueError(f"arrays of {kind.name} are not supported")
        self.arrays[orig_offs] = values
        whole = self.data[orig_offs:end]
        return end - orig_offs, [whole], [0], [_ARRAY, kind]


def _read_strings(data: NDArray[np.uint8], begin: int, count: int) -> tuple[list[str], int]:
    if count * 8 > data.size - begin:
        raise ValueError(f"an array of {count} strings exceeds the file")
    view = memoryview(data)
    length_of = struct.Struct("<Q").unpack_from
    values = []
    offset = begin
    for _ in range(count):
        (length,) = length_of(view, offset)
        end = offset + 8 + length
        if end > data.size:
            raise ValueError(f"a string of {length} bytes exceeds the file")
        values.append(str(view[offset + 8 : end], "utf-8", "replace"))
        offset = end
    return values, offset


class GGUFFile:
    """An open GGUF file. Raises ModelFormatError if it is not a whole and sound one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = _Reader(path)
            self.metadata = self._read_metadata()
            self.tensors = [self._stored(tensor) for tensor in self._reader.tensors]
        except OSError as error:
            raise ModelFormatError(f"{path}: {error.strerror or error}") from None
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            MemoryError,
            ArithmeticError,
            struct.error,
        ) as error:
            raise ModelFormatError(f"{path}: not a sound GGUF file: {error}") from None

    def find(self, name: str) -> StoredTensor | None:
        """The tensor of this name, if there is one."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    def dequantise(self, tensor: StoredTensor) -> NDArray[Any]:
        """The tensor's values as float32; F16 and F32 in their own type. BF16 comes as uint16 bits."""
        source = tensor.source
        kind = source.tensor_type
        if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            return np.asarray(source.data).reshape(tensor.shape)
        if kind == gguf.GGMLQuantizationType.BF16:
            return np.asarray(source.data).view(np.uint16).reshape(tensor.shape)
        try:
            return gguf.quants.dequantize(source.data, kind).reshape(tensor.shape)
        except (NotImplementedError, ValueError, KeyError) as error:
            raise ModelFormatError(
                f"{self.path}: tensor {tensor.name!r} of type {kind.name} cannot be read: {error}"
            ) from None

    def _stored(self, tensor: ReaderTensor) -> StoredTensor:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        return StoredTensor(str(tensor.name), shape, tensor)

    def _read_metadata(self) -> dict[str, Any]:
        return dict(self._values())

    def _values(self) -> Iterator[tuple[str, Any]]:
        for name, field in self._reader.fields.items():
            if not field.types:
                continue
            if field.types[0] == _ARRAY:
                # An array's field begins with its key, so its own offset is behind that.
                offset = field.offset + sum(int(part.nbytes) for part in field.parts[:3])
                yield name, self._reader.arrays[offset]
            elif field.types[0] == _STRING:
                yield name, str(bytes(field.parts[-1]), "utf-8", "replace")
            else:
                yield name, field.parts[field.data[0]].tolist()[0]

