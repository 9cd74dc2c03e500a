"""Who holds which block: the one owner of reference counts, free blocks and the prefix index."""

from collections.abc import Iterable, Sequence

from .block import Block
from .block_hash import BlockHash
from .block_lives import BlockLives
from .eviction_list import EvictionList
from .prefix_index import PrefixIndex


class NoFreeBlocksError(Exception):
    """More blocks were asked for than are free."""


class BlockPool:
    """A fixed number of blocks, made once and handed out on demand.

    A block is either *used* (held by one or more block tables, `ref_count` of them) or *free*. A
    free block may still be *cached*: it keeps its content and its place in the prefix index until
    it is taken for something else. Blocks without content are taken first, the last one that came
    back before the others; then cached ones, the least recently used first.

    Block 0 is the null block: never handed out, the target of padding writes. Every method but
    `reset_prefix_cache` and `check_integrity` is O(1) per block. `lives` is told how blocks fare.
    Raises ValueError for fewer than two blocks.
    """

    def __init__(
        self,
        num_blocks: int,
        enable_prefix_caching: bool = True,
        lives: BlockLives | None = None,
    ) -> None:
        if num_blocks < 2:
            raise ValueError(f"num_blocks must be at least 2 (one is padding), got {num_blocks}")
        null_block, *usable = [Block(block_id) for block_id in range(num_blocks)]
        self.null_block = null_block
        self.num_usable = len(usable)
        self.enable_prefix_caching = enable_prefix_caching
        self.num_evictions = 0
        self._lives = lives
        self._changed: set[int] | None = None
        self._blocks = usable
        self._index = PrefixIndex()
        self._empty = usable[::-1]  # a stack of the free blocks without content
        self._cached = EvictionList(anchor=null_block)  # those with content

    @property
    def num_free(self) -> int:
        """Blocks that can be taken now, cached ones included."""
        return len(self._empty) + len(self._cached)

    @property
    def num_cached(self) -> int:
        """Free blocks that still hold reusable content."""
        return len(self._cached)

    @property
    def num_used(self) -> int:
        """Blocks that some table holds."""
        return self.num_usable - self.num_free

    @property
    def usage(self) -> float:
        """Used part of the usable blocks, 0 to 1."""
        return self.num_used / self.num_usable

    @property
    def free_block_ids(self) -> list[int]:
        """Ids of the free blocks in the order in which they will be taken. O(free blocks)."""
        return [block.block_id for block in (*reversed(self._empty), *self._cached)]

    def allocate(self, num_blocks: int) -> list[Block]:
        """Take free blocks; content that is cached in them is lost.

        Raises NoFreeBlocksError, with nothing changed, if fewer are free.
        """
        empty = self._empty
        if num_blocks == 1 and empty:  # what decoding asks for
            block = empty.pop()
            block.ref_count = 1
            if self._lives is not None:
                self._lives.taken((block,))
            if self._changed is not None:
                self._changed.add(block.block_id)
            return [block]
        num_kept = len(empty) - num_blocks
        if num_kept >= 0:
            taken = empty[num_kept:]
            del empty[num_kept:]
            taken.reverse()
        else:
            if -num_kept > len(self._cached):
                raise NoFreeBlocksError(f"{num_blocks} blocks asked for, {self.num_free} are free")
            taken = empty[::-1]
            empty.clear()
            for _ in range(-num_kept):
                taken.append(self._evict())
        for block in taken:
            block.ref_count = 1
        if self._lives is not None:
            self._lives.taken(taken)
        if self._changed is not None:
            self._note_changed(taken)
        return taken

    def touch(self, blocks: Sequence[Block]) -> None:
        """Hold cached blocks once more: they were found by `lookup` and go into another table."""
        for block in blocks:
            assert block.block_hash is not None, f"{block} is not shareable"
            if block.ref_count == 0:
                self._cached.remove(block)
            block.ref_count += 1
            if self._lives is not None:
                self._lives.used(block)
        if self._changed is not None:
            self._note_changed(blocks)

    def release(self, blocks: Sequence[Block]) -> None:
        """Give up one hold on each block.

        Give a table's blocks last first: then the tail of a sequence is evicted before its head,
        without which the tail could not be found.
        """
        for block in blocks:
            ref_count = block.ref_count - 1
            assert ref_count >= 0, f"{block} is released but not held"
            block.ref_count = ref_count
            if ref_count > 0:
                continue
            if block.block_hash is None:
                self._empty.append(block)
            else:
                self._cached.append(block)
        if self._changed is not None:
            self._note_changed(blocks)

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
            self._cached.remove(block)
            self._empty.append(block)
            if self._changed is not None:
                self._note_changed((block,))

    def reset_prefix_cache(self) -> int:
        """Forget all cached content. Returns how many blocks had some.

        Whoever holds blocks keeps them, but nobody finds them any more.
        """
        num_blocks = 0
        for block in self._index:
            block.block_hash = None
            num_blocks += 1
        self._index.clear()
        cached = list(self._cached)
        if self._changed is not None:
            self._note_changed(cached)
        for block in cached:
            self._cached.remove(block)
        self._empty = cached[::-1] + self._empty  # the order in which they are taken stays
        return num_blocks

    def watch(self) -> set[int]:
        """From now on, ids of blocks whose state or holders change gather in the set returned.

        Who watches empties it from time to time.
        """
        self._changed = set()
        return self._changed

    def unwatch(self) -> None:
        """Note no changes any more."""
        self._changed = None

    def block(self, block_id: int) -> Block:
        """A usable block, 1 to `num_usable`."""
        return self._blocks[block_id - 1]

    def check_integrity(self) -> None:
        """Assert that the books agree with each other. O(blocks): for tests and idle moments."""
        cached = [block.block_id for block in self._cached]
        assert len(cached) == len(self._cached), "the eviction list has lost count"
        free = {*cached, *(block.block_id for block in self._empty)}
        assert len(free) == self.num_free, "a block is free twice"
        assert free == {block.block_id for block in self._blocks if block.ref_count == 0}
        assert all(block.ref_count >= 0 for block in self._blocks)
        indexed = {block.block_id for block in self._index}
        assert len(indexed) == len(self._index), "the index holds a block twice"
        assert indexed == {b.block_id for b in self._blocks if b.block_hash is not None}
        assert set(cached) == free & indexed
        assert self.null_block.ref_count == 0 and self.null_block.block_hash is None

    def _evict(self) -> Block:
        """Take the block whose content was not used for longest."""
        block = self._cached.pop()
        self.num_evictions += 1
        self._forget_content(block)
        if self._lives is not None:
            self._lives.evicted(block)
        return block

    def _note_changed(self, blocks: Iterable[Block]) -> None:
        """For a watcher; who calls looks first whether there is one, which costs less."""
        assert self._changed is not None
        self._changed.update([block.block_id for block in blocks])

    def _forget_content(self, block: Block) -> None:
        self._index.remove(block)
        block.block_hash = None
