"""The blocks of one request, in the order of its tokens."""

from collections.abc import Iterable, Sequence

from .block import Block
from .block_hash import BlockHash, hash_block


class BlockTable:
    """A request's blocks, and the hashes of its full blocks.

    Hashes are made from tokens alone, so they outlive the blocks: a preempted request finds its
    cached blocks again without hashing anything twice.
    """

    __slots__ = ("_hash_extra", "blocks", "hashes")

    def __init__(self, hash_extra: bytes = b"") -> None:
        self._hash_extra = hash_extra
        self.blocks: list[Block] = []
        self.hashes: list[BlockHash] = []

    def block_ids(self, start: int = 0) -> list[int]:
        """Ids of the blocks from index `start` on."""
        return [block.block_id for block in self.blocks[start:]]

    def append(self, blocks: Iterable[Block]) -> None:
        """Add blocks at the end; a table never changes in the middle."""
        self.blocks.extend(blocks)

    def hash_full_blocks(self, token_ids: Sequence[int], block_size: int) -> None:
        """Hash the blocks that `token_ids`, all of the request's tokens, have come to fill.

        Work is done for new full blocks only: O(1) per token over a request's life.
        """
        for index in range(len(self.hashes), len(token_ids) // block_size):
            tokens = token_ids[index * block_size : (index + 1) * block_size]
            if index == 0:
                self.hashes.append(hash_block(None, tokens, self._hash_extra))
            else:
                self.hashes.append(hash_block(self.hashes[-1], tokens))

    def clear(self) -> list[Block]:
        """Give up every block, last first: the order in which `BlockPool.release` wants them."""
        blocks = self.blocks
        self.blocks = []  # who looks on tells by it that the table began anew
        return blocks[::-1]
