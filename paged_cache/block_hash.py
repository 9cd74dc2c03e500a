"""The name of a full block's content: a hash over all that decided it."""

import struct
from collections.abc import Sequence
from hashlib import sha256

BlockHash = bytes
"""A SHA-256 digest, 32 bytes."""


def hash_block(parent: BlockHash | None, token_ids: Sequence[int], extra: bytes = b"") -> BlockHash:
    """Hash one full block, given the hash of the block before it (None for the first).

    `extra` is what besides tokens decides the content (model, LoRA, tenant salt); give it with the
    first block, from where the chain carries it on. SHA-256 because tenants are kept apart by this
    hash alone: who could make two blocks collide could read another's cache. Every part is of
    known length, so no two inputs share an encoding, and the value is the same on every machine.
    """
    digest = sha256(b"\x00" if parent is None else b"\x01" + parent)
    digest.update(struct.pack("<Q", len(extra)))
    digest.update(extra)
    digest.update(struct.pack(f"<{len(token_ids)}Q", *token_ids))
    return digest.digest()
