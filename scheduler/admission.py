"""Whether the request at the head of the queue fits, and the blocks it gets if so."""

from dataclasses import dataclass

from ..paged_cache import BlockHash, BlockPool
from .feasibility import count_blocks
from .request import Request, SchedulingKey


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a request was not admitted: what must change first."""

    key: SchedulingKey
    num_blocks_needed: int  # so many must be free,
    missing_hash: BlockHash | None  # or the next block of its prefix must have come into the cache


class Admission:
    """Fills the tables of admitted requests from the pool.

    The last refusal is remembered, so that a long prompt at the head of the queue is not looked up
    anew in every step.
    """

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size
        self._refusal: _Refusal | None = None

    def fill_table(self, request: Request, num_reserved: int, others_run: bool) -> int | None:
        """Give a request the blocks of all its known tokens. Returns how many were cache hits.

        None, with nothing changed, if that left fewer than `num_reserved` blocks free.
        """
        if others_run and self._is_still_refused(request):
            return None
        max_prefix_blocks = self._limit_prefix(request)
        prefix = self._pool.longest_prefix(request.table.hashes, max_prefix_blocks)
        num_new_blocks = count_blocks(request.num_tokens, self._block_size) - len(prefix)
        # A free block of the prefix is not new, but one block fewer is free all the same.
        num_free_hits = sum(block.ref_count == 0 for block in prefix)
        num_blocks_needed = num_new_blocks + num_free_hits + num_reserved
        if num_blocks_needed > self._pool.num_free:
            is_cut_short = len(prefix) < max_prefix_blocks
            missing_hash = request.table.hashes[len(prefix)] if is_cut_short else None
            self._refusal = _Refusal(request.key, num_blocks_needed, missing_hash)
            return None
        self._refusal = None
        self._pool.touch(prefix)
        request.table.append(prefix)
        request.table.append(self._pool.allocate(num_new_blocks))
        return len(prefix)

    def reads_cache(self, request: Request) -> bool:
        """Whether the request may take cached blocks."""
        return request.use_prefix_cache and self._pool.enable_prefix_caching

    def _is_still_refused(self, request: Request) -> bool:
        """Whether nothing has happened yet that could change the last refusal."""
        refusal = self._refusal
        if refusal is None or refusal.key != request.key:
            return False
        if refusal.num_blocks_needed <= self._pool.num_free:
            return False
        return refusal.missing_hash is None or self._pool.lookup(refusal.missing_hash) is None

    def _limit_prefix(self, request: Request) -> int:
        """How many cached blocks a request may take: one token at least is left to sample from."""
        if not self.reads_cache(request):
            return 0
        request.table.hash_full_blocks(request.token_ids, self._block_size)
        return (request.num_tokens - 1) // self._block_size
