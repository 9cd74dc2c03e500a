"""One block: its number, who reads it, what it holds."""

from dataclasses import dataclass

from .block_hash import BlockHash


@dataclass(slots=True, eq=False)
class Block:
    """A fixed-size piece of KV memory. Made once by `BlockPool`, and changed by it alone.

    `ref_count` is the number of block tables that hold the block; at 0 it is free. `block_hash`
    names the content of a full block that may be shared, and is None for any other. A free block
    with content is linked into the eviction list through `prev` and `next`.
    """

    block_id: int
    ref_count: int = 0
    block_hash: BlockHash | None = None
    prev: "Block | None" = None
    next: "Block | None" = None

    def __repr__(self) -> str:
        name = "-" if self.block_hash is None else self.block_hash.hex()[:8]
        return f"Block({self.block_id}, refs={self.ref_count}, hash={name})"
