"""Ways in which a file breaks. Every one is a function of the bytes and of a random generator."""

import random
import struct
from collections.abc import Callable

# Numbers that lengths, counts and offsets of a corrupt file tend to be, at their edges.
_NUMBERS = (
    *(0, 1, 2, 7, 8, 31, 255, 256, 65535, 65536),
    *(2**20, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62),
    *(2**63 - 1, 2**63, 2**64 - 1, 2**64 - 8, 2**64 - 32),
)
_LONGEST_HEAD = 16_384  # bytes in which most files have what describes the rest


def break_file(data: bytes, rng: random.Random) -> bytes:
    """Break a file in one to three ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_WAYS)(data, rng)
    return data


def _place(data: bytes, rng: random.Random, size: int = 1) -> int:
    """Somewhere in the file, in its head more often than not."""
    end = max(0, len(data) - size)
    return rng.randint(0, min(end, _LONGEST_HEAD) if rng.random() < 0.8 else end)


def _flip_bits(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if broken:
            broken[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(broken)


def _replace_bytes(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 8, 100))
    return data[:at] + rng.randbytes(size) + data[at + size :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((rng.randint(0, len(data)), rng.randint(0, 64), len(data) - 1))]


def _insert_bytes(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 4, 8, 33, 5000))
    piece = rng.choice((rng.randbytes(size), b"\0" * size, data[at : at + size]))
    return data[:at] + piece + data[at:]


def _delete_bytes(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 4, 8, 33, 5000)) :]


def _write_number(data: bytes, rng: random.Random) -> bytes:
    """A number of 32 or 64 bits where another stood."""
    number = rng.choice(_NUMBERS)
    form = "<Q" if rng.random() < 0.6 or number >= 2**32 else "<I"
    piece = struct.pack(form, number)
    at = rng.choice((_place(data, rng), rng.choice((0, 4, 8, 16))))
    return data[:at] + piece + data[at + len(piece) :]


def _write_length_of_text(data: bytes, rng: random.Random) -> bytes:
    """Another number in place of the 64 bits before a text, which in GGUF is its length."""
    text = rng.choice((b"llama.", b"tokenizer.", b"blk.", b"general.", b"token_embd"))
    places = [at for at in range(8, min(len(data), 60_000)) if data.startswith(text, at)]
    if not places:
        return _write_number(data, rng)
    at = rng.choice(places) - 8
    return data[:at] + struct.pack("<Q", rng.choice(_NUMBERS)) + data[at + 8 :]


def _replace_digits(data: bytes, rng: random.Random) -> bytes:
    """Another value in place of a number that is written out, as in JSON."""
    places = [at for at in range(min(len(data), 60_000)) if 48 <= data[at] <= 57]
    if not places:
        return _write_number(data, rng)
    begin = end = rng.choice(places)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    literals = ("-1", "0", "1e400", "1e-400", "NaN", "null", "true", "[]", '"x"', "9" * 400, "0.5")
    value = rng.choice((*map(str, _NUMBERS), *literals))
    return data[:begin] + value.encode() + data[end:]


def _duplicate_piece(data: bytes, rng: random.Random) -> bytes:
    """A copy of one part of the file written over another."""
    size = rng.choice((8, 32, 256))
    source, target = _place(data, rng, size), _place(data, rng, size)
    return data[:target] + data[source : source + size] + data[target + size :]


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _replace_bytes,
    _truncate,
    _insert_bytes,
    _delete_bytes,
    _write_number,
    _write_number,
    _write_length_of_text,
    _replace_digits,
    _duplicate_piece,
)
