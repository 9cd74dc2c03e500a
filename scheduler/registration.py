"""Full blocks enter the prefix index when the step that fills them is scheduled (ADR 0005)."""

from ..paged_cache import Block, BlockPool
from .in_flight import StepInFlight
from .request import Request


class Registration:
    """Names blocks by their content as it gets decided, and lets others find them."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size
        self._filled: list[Block] = []  # by the step that is being put together

    def take_filled(self) -> list[Block]:
        """The blocks registered for the step that was put together; the next begins anew."""
        filled, self._filled = self._filled, []
        return filled

    def register_filled(self, request: Request, start: int, end: int) -> None:
        """Enter the blocks that tokens `start` to `end` (exclusive) fill.

        A block with a pending token has no name yet: `register_known` will give it one.
        """
        table = request.table
        table.hash_full_blocks(request.token_ids, self._block_size)
        num_known = min(end, len(request.token_ids))
        for index in range(start // self._block_size, num_known // self._block_size):
            block = table.blocks[index]
            self._pool.register(block, table.hashes[index])
            self._filled.append(block)

    def register_known(self, request: Request, step: StepInFlight) -> None:
        """Enter the block that the newest token fills, if `step`, still in flight, computes it."""
        num_known = len(request.token_ids)
        if num_known % self._block_size != 0 or request.num_computed_tokens < num_known:
            return
        table = request.table
        table.hash_full_blocks(request.token_ids, self._block_size)
        block = table.blocks[num_known // self._block_size - 1]
        self._pool.register(block, table.hashes[-1])
        step.filled.append(block)
