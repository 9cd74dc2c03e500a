"""The free blocks that still hold content, least recently used first."""

from collections.abc import Iterator

from .block import Block


class EvictionList:
    """A doubly linked list threaded through the blocks themselves: every change is O(1).

    The list is a ring closed by `anchor`, a block that is never free itself, so that no link is
    ever missing.
    """

    __slots__ = ("_anchor", "_length")

    def __init__(self, anchor: Block) -> None:
        self._anchor = anchor
        anchor.prev = anchor.next = anchor
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Block]:
        block = self._anchor.next
        while block is not None and block is not self._anchor:
            yield block
            block = block.next

    def append(self, block: Block) -> None:
        """Put a block at the end: it is evicted last."""
        anchor = self._anchor
        last = anchor.prev
        assert last is not None and block.prev is None
        last.next = anchor.prev = block
        block.prev, block.next = last, anchor
        self._length += 1

    def pop(self) -> Block:
        """Take the block at the front. The list must not be empty."""
        block = self._anchor.next
        assert block is not None
        self.remove(block)
        return block

    def remove(self, block: Block) -> None:
        """Take a block out from wherever it is in the list."""
        before, after = block.prev, block.next
        assert before is not None and after is not None and block is not self._anchor
        before.next, after.prev = after, before
        block.prev = block.next = None
        self._length -= 1
