"""The head of a GGUF file: its metadata, and where each tensor lies.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It is read here and not by
the `gguf` package's reader, since that keeps several objects for each element of an array (seconds
for a vocabulary) and believes what a file says of its lengths. Here every length is checked against
the file, and against a limit far above real models, before anything is made of it.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

from gguf import GGML_QUANT_SIZES, GGUF_MAGIC, GGMLQuantizationType, GGUFValueType

from .errors import ModelFormatError, UnsupportedModelError

SUPPORTED_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_KEYS = 10_000
MAX_TENSORS = 200_000
MAX_ARRAY = 1 << 22  # elements; the largest vocabularies have some 300,000 tokens
MAX_TEXT_BYTES = 1 << 24
MAX_KEY_BYTES = 65_535  # as the format has it
MAX_NAME_BYTES = 256  # of a tensor; the format allows 64
MAX_DIMENSIONS = 4

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the file: `shape` is row-major; its bytes begin at `begin` of the file."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    begin: int
    num_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """Everything before the tensors' bytes. Arrays are lists; what is no UTF-8 is U+FFFD."""

    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]


def read_header(data: memoryview) -> GGUFHeader:
    """Read the head of a whole file's bytes.

    Every tensor is checked to lie within the file. Raises ModelFormatError (which does not name the
    file), UnsupportedModelError.
    """
    cursor = _Cursor(data)
    _check_version(cursor)
    num_tensors = cursor.count(MAX_TENSORS, "tensors")
    num_keys = cursor.count(MAX_KEYS, "metadata keys")
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text(MAX_KEY_BYTES)
        if key in metadata:
            raise ModelFormatError(f"the key {key[:60]!r} occurs twice")
        metadata[key] = cursor.value(cursor.number(_U32))
    described = [_read_description(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise ModelFormatError(f"'general.alignment' must be a power of two, got {alignment!r}")
    data_begin = -(-cursor.offset // alignment) * alignment
    tensors = tuple(_place(item, data_begin, alignment, len(data)) for item in described)
    if len({tensor.name for tensor in tensors}) < num_tensors:
        raise ModelFormatError("two tensors bear the same name")
    return GGUFHeader(metadata, tensors)


class _Cursor:
    """Reads forward through bytes and never beyond their end."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.offset = 0

    def number(self, form: struct.Struct) -> int:
        return int(form.unpack(self.take(form.size))[0])

    def count(self, limit: int, what: str) -> int:
        count = self.number(_U64)
        if count > limit:
            raise ModelFormatError(f"{count:,} {what} are more than any model has: corrupt")
        return count

    def take(self, size: int) -> memoryview:
        begin, end = self.offset, self.offset + size
        if end > len(self._data):
            raise ModelFormatError(
                f"truncated or corrupt: {size:,} bytes expected at {begin:,}, but the file ends at "
                f"{len(self._data):,}"
            )
        self.offset = end
        return self._data[begin:end]

    def text(self, limit: int = MAX_TEXT_BYTES) -> str:
        return str(self.take(self.count(limit, "bytes of a text")), "utf-8", "replace")

    def value(self, raw_kind: int) -> Any:
        kind = _value_kind(raw_kind)
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind != GGUFValueType.ARRAY:
            form = struct.Struct("<" + _SCALARS[kind])
            return form.unpack(self.take(form.size))[0]
        kind = _value_kind(self.number(_U32))
        count = self.count(MAX_ARRAY, "elements of an array")
        if kind == GGUFValueType.STRING:
            return self._texts(count)
        if kind == GGUFValueType.ARRAY:
            raise UnsupportedModelError("arrays of arrays in metadata are not supported")
        form = struct.Struct(f"<{count}{_SCALARS[kind]}")
        return list(form.unpack(self.take(form.size)))

    def _texts(self, count: int) -> list[str]:
        """Like `text` for each; spelled out, since vocabularies are the bulk of a header."""
        data, size, offset = self._data, len(self._data), self.offset
        length_at = _U64.unpack_from
        texts = []
        for _ in range(count):
            begin = offset + 8
            offset = begin + length_at(data, offset)[0] if begin <= size else begin
            if offset > size or offset - begin > MAX_TEXT_BYTES:
                raise ModelFormatError(f"truncated or corrupt: a text at {begin:,} has no end")
            texts.append(str(data[begin:offset], "utf-8", "replace"))
        self.offset = offset
        return texts


@dataclass(frozen=True, slots=True)
class _Description:
    """What the head says of a tensor; `offset` counts from the end of the head."""

    name: str
    dimensions: tuple[int, ...]  # the fastest-running first
    raw_kind: int
    offset: int


def _read_description(cursor: _Cursor) -> _Description:
    name = cursor.text(MAX_NAME_BYTES)
    num_dimensions = cursor.number(_U32)
    if num_dimensions > MAX_DIMENSIONS:
        raise ModelFormatError(f"tensor {name!r} has {num_dimensions} dimensions: corrupt")
    dimensions = tuple(cursor.number(_U64) for _ in range(num_dimensions))
    if 0 in dimensions:
        raise ModelFormatError(f"tensor {name!r} holds nothing: corrupt")
    return _Description(name, dimensions, cursor.number(_U32), cursor.number(_U64))


def _place(item: _Description, data_begin: int, alignment: int, file_size: int) -> StoredTensor:
    """Where a tensor's bytes are, if all of them are in the file."""
    try:
        kind = GGMLQuantizationType(item.raw_kind)
    except ValueError:
        raise ModelFormatError(
            f"tensor {item.name!r} has the type {item.raw_kind}, which the installed gguf package "
            "does not know: corrupt, or the package is too old"
        ) from None
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    row = item.dimensions[0] if item.dimensions else 1
    if row % block_size:
        raise ModelFormatError(
            f"tensor {item.name!r} has rows of {row}, no multiple of {kind.name}'s {block_size}"
        )
    num_bytes = math.prod(item.dimensions) // block_size * block_bytes
    begin = data_begin + item.offset
    if item.offset % alignment:
        raise ModelFormatError(f"tensor {item.name!r} is not aligned to {alignment} bytes")
    if begin + num_bytes > file_size:
        raise ModelFormatError(
            f"truncated or corrupt: tensor {item.name!r} ends at byte {begin + num_bytes:,}, but "
            f"the file ends at {file_size:,}"
        )
    return StoredTensor(item.name, tuple(reversed(item.dimensions)), kind, begin, num_bytes)


def _value_kind(raw_kind: int) -> GGUFValueType:
    try:
        return GGUFValueType(raw_kind)
    except ValueError:
        raise ModelFormatError(f"metadata of the unknown type {raw_kind}: corrupt") from None


def _check_version(cursor: _Cursor) -> None:
    if cursor.number(_U32) != GGUF_MAGIC:
        raise ModelFormatError("not a GGUF file: it does not begin with GGUF")
    version = cursor.number(_U32)
    if version and version & 0xFFFF == 0:
        raise UnsupportedModelError("big-endian GGUF files are not supported")
    if version not in SUPPORTED_VERSIONS:
        raise UnsupportedModelError(
            f"GGUF version {version} is not supported; supported are "
            f"{', '.join(map(str, SUPPORTED_VERSIONS))}"
        )
