"""The name of a full block's content: a hash over all that decided it."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from struct import Struct

BlockHash = bytes
"""A SHA-256 digest, 32 bytes."""


def hash_block(parent: BlockHash | None, token_ids: Sequence[int], extra: bytes = b"") -> BlockHash:
    """Hash one full block, given the hash of the block before it (None for the first).

    `extra` is what besides tokens decides the content (model, LoRA, tenant salt); give it with the
    first block, from where the chain carries it on. SHA-256 because tenants are kept apart by this
    hash alone: who could make two blocks collide could read another's cache. Every part is of
    known length, so no two inputs share an encoding, and the value is the same on every machine.
    """
    head = b"\x00" if parent is None else b"\x01" + parent
    size = len(extra).to_bytes(8, "little") if extra else _NO_EXTRA
    return sha256(head + size + extra + _packer(len(token_ids))(*token_ids)).digest()


_NO_EXTRA = bytes(8)  # its length


@lru_cache(maxsize=64)  # in a server all blocks have one size
def _packer(num_tokens: int) -> Callable[..., bytes]:
    """What writes so many token ids."""
    return Struct(f"<{num_tokens}Q").pack
