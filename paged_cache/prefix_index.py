"""From the hash of a full block's content to a block that holds it."""

from collections.abc import Iterator

from .block import Block
from .block_hash import BlockHash


class PrefixIndex:
    """Finds blocks by content. Owned by `BlockPool`.

    Several blocks may hold the same content, since a block never moves and tables only grow:
    requests that computed it side by side each keep their own. `find` gives the oldest.
    """

    def __init__(self) -> None:
        self._first: dict[BlockHash, Block] = {}
        self._duplicates: dict[BlockHash, dict[int, Block]] = {}  # further blocks, by id

    def __len__(self) -> int:
        return len(self._first) + sum(map(len, self._duplicates.values()))

    def __iter__(self) -> Iterator[Block]:
        yield from self._first.values()
        for duplicates in self._duplicates.values():
            yield from duplicates.values()

    def find(self, block_hash: BlockHash) -> Block | None:
        """A block with this content, or None."""
        return self._first.get(block_hash)

    def add(self, block: Block) -> None:
        """Index a block under its hash."""
        assert block.block_hash is not None
        first = self._first.setdefault(block.block_hash, block)
        if first is not block:
            self._duplicates.setdefault(block.block_hash, {})[block.block_id] = block

    def remove(self, block: Block) -> None:
        """Take this block out; others with the same content stay."""
        block_hash = block.block_hash
        assert block_hash is not None
        duplicates = self._duplicates.get(block_hash)
        if duplicates is None:
            first = self._first.pop(block_hash)
            assert first is block
            return
        if self._first[block_hash] is block:
            self._first[block_hash] = duplicates.pop(next(iter(duplicates)))
        else:
            del duplicates[block.block_id]
        if not duplicates:
            del self._duplicates[block_hash]

    def clear(self) -> None:
        """Forget every block."""
        self._first.clear()
        self._duplicates.clear()
