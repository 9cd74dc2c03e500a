"""Who holds which block: the one owner of reference counts, the free list and the prefix index."""

from collections.abc import Iterable, Sequence

from .block import Block
from .block_hash import BlockHash
from .free_list import FreeList
from .prefix_index import PrefixIndex


class NoFreeBlocksError(Exception):
    """More blocks were asked for than are free."""


class BlockPool:
    """A fixed number of blocks, made once and handed out on demand.

    A block is either *used* (held by one or more block tables, `ref_count` of them) or *free*. A
    free block may still be *cached*: it keeps its content and its place in the prefix index until
    it is taken for something else. Blocks are taken from the front of the free list. Those without
    reusable content go back to the front, cached ones to the end, so that the least recently used
    content is the first to be lost.

    Block 0 is the null block: never handed out, the target of padding writes. Every method but
    `reset_prefix_cache` and `check_integrity` is O(1) per block. Raises ValueError for fewer than
    two blocks.
    """

    def __init__(self, num_blocks: int, enable_prefix_caching: bool = True) -> None:
        if num_blocks < 2:
            raise ValueError(f"num_blocks must be at least 2 (one is padding), got {num_blocks}")
        null_block, *usable = [Block(block_id) for block_id in range(num_blocks)]
        self.null_block = null_block
        self.num_usable = len(usable)
        self.enable_prefix_caching = enable_prefix_caching
        self.num_evictions = 0
        self._blocks = usable
        self._index = PrefixIndex()
        self._num_cached = 0
        self._free = FreeList(anchor=null_block)
        for block in usable:
            self._free.append(block)

    @property
    def num_free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Free blocks that still hold reusable content."""
        return self._num_cached

    @property
    def num_used(self) -> int:
        """Blocks that some table holds."""
        return self.num_usable - len(self._free)

    @property
    def usage(self) -> float:
        """Used part of the usable blocks, 0 to 1."""
        return self.num_used / self.num_usable

    @property
    def free_block_ids(self) -> list[int]:
        """Ids of the free blocks in the order in which they will be taken. O(free blocks)."""
        return [block.block_id for block in self._free]

    def allocate(self, num_blocks: int) -> list[Block]:
        """Take blocks from the front of the free list; content cached in them is lost.

        Raises NoFreeBlocksError, with nothing changed, if fewer are free.
        """
        if num_blocks > self.num_free:
            raise NoFreeBlocksError(f"{num_blocks} blocks asked for, {self.num_free} are free")
        taken = []
        for _ in range(num_blocks):
            block = self._free.pop()
            if block.block_hash is not None:
                self._num_cached -= 1
                self.num_evictions += 1
                self._forget_content(block)
            block.ref_count = 1
            taken.append(block)
        return taken

    def touch(self, blocks: Iterable[Block]) -> None:
        """Hold cached blocks once more: they were found by `lookup` and go into another table."""
        for block in blocks:
            assert block.block_hash is not None, f"{block} is not shareable"
            if block.ref_count == 0:
                self._free.remove(block)
                self._num_cached -= 1
            block.ref_count += 1

    def release(self, blocks: Iterable[Block]) -> None:
        """Give up one hold on each block.

        Give a table's blocks last first: then the tail of a sequence is evicted before its head,
        without which the tail could not be found.
        """
        for block in blocks:
            assert block.ref_count > 0, f"{block} is released but not held"
            block.ref_count -= 1
            if block.ref_count > 0:
                continue
            if block.block_hash is None:
                self._free.prepend(block)
            else:
                self._free.append(block)
                self._num_cached += 1

    def register(self, block: Block, block_hash: BlockHash) -> None:
        """Let others find a full block by its content. It must not be written again."""
        assert block.ref_count > 0, f"{block} is registered but not held"
        assert block.block_hash is None, f"{block} is registered twice"
        block.block_hash = block_hash
        self._index.add(block)

    def lookup(self, block_hash: BlockHash) -> Block | None:
        """A block with this content, used or free, or None. Holds nothing: see `touch`."""
        return self._index.find(block_hash)

    def longest_prefix(self, hashes: Sequence[BlockHash], limit: int) -> list[Block]:
        """The blocks of the longest cached run of leading hashes, at most `limit` of them."""
        prefix: list[Block] = []
        for block_hash in hashes[:limit]:
            block = self._index.find(block_hash)
            if block is None:
                break
            prefix.append(block)
        return prefix

    def drop(self, block: Block) -> None:
        """Take back a registration: the content was never computed."""
        if block.block_hash is None:
            return
        self._forget_content(block)
        if block.ref_count == 0:
            self._num_cached -= 1
            self._free.remove(block)
            self._free.prepend(block)

    def reset_prefix_cache(self) -> bool:
        """Forget all cached content. Returns False, with nothing changed, while blocks are used."""
        if self.num_used > 0:
            return False
        for block in self._index:
            block.block_hash = None
        self._index.clear()
        self._num_cached = 0
        return True

    def check_integrity(self) -> None:
        """Assert that the books agree with each other. O(blocks): for tests and idle moments."""
        free = {block.block_id for block in self._free}
        assert len(free) == len(self._free), "the free list holds a block twice"
        assert free == {block.block_id for block in self._blocks if block.ref_count == 0}
        assert all(block.ref_count >= 0 for block in self._blocks)
        indexed = {block.block_id for block in self._index}
        assert len(indexed) == len(self._index), "the index holds a block twice"
        assert indexed == {b.block_id for b in self._blocks if b.block_hash is not None}
        assert self._num_cached == len(free & indexed)
        assert self.null_block.ref_count == 0 and self.null_block.block_hash is None

    def _forget_content(self, block: Block) -> None:
        self._index.remove(block)
        block.block_hash = None
