"""Continuous batching: which tokens are computed in the next step.

Every request is a number of computed tokens chasing a number of known tokens. One step computes
tokens of many requests under one budget, whether they belong to prompts or were just sampled.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Literal

from ..paged_cache import Block, BlockHash, BlockPool
from .batch import Batch, RequestUpdate, ScheduledRequest
from .batch_builder import BatchBuilder
from .feasibility import check_feasible, count_blocks
from .request import Request, RequestStatus, SchedulingKey
from .waiting_queue import WaitingQueue


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why the request at the head of the queue was not admitted: what must change first."""

    key: SchedulingKey
    num_blocks_needed: int  # so many must be free,
    missing_hash: BlockHash | None  # or the next block of its prefix must have come into the cache


class Scheduler:
    """Moves requests between waiting and running, and is alone to do so.

    Requests are ordered by priority, then arrival (`policy="fcfs"` takes all priorities as equal).
    The first in that order among the running is never preempted and computes at least one token in
    every step. A request that waits is admitted when all its known tokens fit into free blocks, so
    only sampled tokens ever take further blocks, and only they may preempt.

    One step is `schedule()`, then `update()` with what was sampled, or `fail()`. Its cost depends
    on the scheduled tokens only: nothing scans the queue, the pool, or a request's context.

    `watermark_blocks` are kept free at admission while others run, for these to grow into.
    `long_prefill_token_threshold` (0 = off) caps one prompt's share of a step while other requests
    run or wait.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_size: int,
        *,
        max_num_batched_tokens: int,
        max_num_seqs: int,
        max_model_len: int,
        long_prefill_token_threshold: int = 0,
        watermark_blocks: int = 0,
        policy: Literal["fcfs", "priority"] = "fcfs",
    ) -> None:
        self._pool = pool
        self._block_size = block_size
        self._max_num_batched_tokens = max_num_batched_tokens
        # Each running request gets a token in every step, so no more may run than there are tokens.
        self._max_num_running = min(max_num_seqs, max_num_batched_tokens)
        self._max_model_len = max_model_len
        self._long_prefill_token_threshold = long_prefill_token_threshold
        self._watermark_blocks = watermark_blocks
        self._ignore_priority = policy == "fcfs"

        self._requests: dict[str, Request] = {}
        self._waiting = WaitingQueue()
        self._running: list[Request] = []  # sorted by key
        self._arrivals = count(1)
        self._refusal: _Refusal | None = None
        self._in_flight: Batch | None = None
        self._blocks_in_flight: list[Block] = []  # registered, and computed by the batch in flight
        self.num_preemptions = 0
        self.num_recomputed_tokens = 0

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs. If so, `schedule()` has tokens to compute."""
        return bool(self._requests)

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for admission, preempted ones included."""
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Queue a new request.

        Raises ValueError if its id is in use, its prompt is empty, or it could outgrow the model's
        context or the whole pool, and so might never finish.
        """
        if request.request_id in self._requests:
            raise ValueError(f"request id {request.request_id!r} is in use")
        check_feasible(request, self._block_size, self._pool.num_usable, self._max_model_len)
        priority, arrival_time, _ = request.key
        request.key = (
            0 if self._ignore_priority else priority,
            arrival_time,
            next(self._arrivals),
        )
        self._requests[request.request_id] = request
        self._waiting.push(request)

    def cancel(self, request_id: str) -> bool:
        """Forget a request in whatever state and free its blocks. False if it is not known."""
        request = self._requests.get(request_id)
        if request is None:
            return False
        if request.status is RequestStatus.RUNNING:
            self._end_running(request)
        else:
            self._waiting.remove(request)
            self._forget(request)
        return True

    def schedule(self) -> Batch:
        """Choose the tokens of the next step.

        Computed-token counts advance now, and blocks that this step fills enter the prefix index
        now, so that equal prompts admitted together share: the runner writes a layer's keys and
        values for the whole batch before any of the batch reads them.
        """
        assert self._in_flight is None, "the last batch was neither updated nor failed"
        step = BatchBuilder(self._max_num_batched_tokens)
        self._schedule_decodes(step)
        self._schedule_prefills(step)
        if not step.preempted:
            self._admit_waiting(step)
        batch = step.build()
        self.num_recomputed_tokens += batch.recomputed_tokens
        self._in_flight = batch
        return batch

    def update(self, batch: Batch, sampled: Mapping[str, int]) -> list[RequestUpdate]:
        """Append the sampled tokens (by request id) and finish the requests that stop.

        Requests cancelled since `schedule()` are passed over.
        """
        self._land(batch)
        updates = []
        for item in batch.scheduled:
            request = self._find_scheduled(item)
            if request is None or not item.samples:
                continue
            token_id = sampled[item.request_id]
            request.token_ids.append(token_id)
            finish = request.stop_rule.check(
                token_id, request.num_output_tokens, request.num_tokens
            )
            if finish is not None:
                self._end_running(request)
            updates.append(
                RequestUpdate(
                    request_id=item.request_id,
                    token_ids=[token_id],
                    finish_reason=None if finish is None else finish.reason,
                    stop_reason=None if finish is None else finish.stop_reason,
                    num_cached_tokens=request.num_cached_tokens,
                )
            )
        return updates

    def fail(self, batch: Batch) -> list[str]:
        """End the requests of a batch that could not be computed. Returns their ids.

        What the batch was to write must not be found as cached content by anyone.
        """
        for block in self._land(batch):
            self._pool.drop(block)
        ended = []
        for item in batch.scheduled:
            request = self._find_scheduled(item)
            if request is not None:
                self._end_running(request)
                ended.append(item.request_id)
        return ended

    # The three passes of a step.

    def _schedule_decodes(self, step: BatchBuilder) -> None:
        """One token for every running request that lacks just one, before any prompt takes its.

        Long prompts thus never starve decodes. The walk is in key order and the victim is always
        the last, so a request scheduled in this step is never preempted in it.
        """
        index = 0
        while index < len(self._running):  # which preemption shortens from the end
            request = self._running[index]
            index += 1
            if request.num_uncomputed_tokens == 1 and self._make_room(request, step):
                self._compute(request, 1, step)

    def _schedule_prefills(self, step: BatchBuilder) -> None:
        """Share what is left of the budget among running prompts. They have all their blocks."""
        for request in self._running:
            if step.tokens_left == 0:
                break
            if request.num_uncomputed_tokens > 0:
                self._compute(request, self._choose_chunk(request, step), step)

    def _admit_waiting(self, step: BatchBuilder) -> None:
        """Admit from the head of the queue; nobody passes one that does not fit."""
        while step.tokens_left > 0 and len(self._running) < self._max_num_running:
            request = self._waiting.head
            if request is None or not self._admit(request, step):
                break
            self._compute(request, self._choose_chunk(request, step), step)

    # Room for a sampled token, by preemption if need be.

    def _make_room(self, request: Request, step: BatchBuilder) -> bool:
        """See that the request's next token has a slot. False if that cost the request itself."""
        table = request.table
        if request.num_computed_tokens < len(table.blocks) * self._block_size:
            return True
        while self._pool.num_free == 0:
            victim = self._running[-1]
            self._preempt(victim, step)
            if victim is request:
                return False
        table.append(self._pool.allocate(1))
        return True

    def _preempt(self, victim: Request, step: BatchBuilder) -> None:
        """Send a running request back to wait; its blocks stay as cache while nobody needs them."""
        self._stop_running(victim)
        victim.status = RequestStatus.PREEMPTED
        victim.num_computed_tokens = 0
        victim.num_announced_blocks = 0
        victim.num_preemptions += 1
        self._waiting.push(victim)
        self.num_preemptions += 1
        step.preempted.append(victim.request_id)

    # Admission.

    def _admit(self, request: Request, step: BatchBuilder) -> bool:
        """Take every block that the known tokens need, cached prefix first; or change nothing."""
        if self._is_still_refused(request):
            return False
        max_prefix_blocks = self._limit_prefix(request)
        prefix = self._pool.longest_prefix(request.table.hashes, max_prefix_blocks)
        num_new_blocks = count_blocks(request.num_tokens, self._block_size) - len(prefix)
        # A free block of the prefix is not new, but it leaves the free list all the same.
        num_blocks_needed = num_new_blocks + sum(block.ref_count == 0 for block in prefix)
        if self._running:
            num_blocks_needed += self._watermark_blocks
        if num_blocks_needed > self._pool.num_free:
            is_cut_short = len(prefix) < max_prefix_blocks
            missing_hash = request.table.hashes[len(prefix)] if is_cut_short else None
            self._refusal = _Refusal(request.key, num_blocks_needed, missing_hash)
            return False

        self._refusal = None
        self._pool.touch(prefix)
        request.table.append(prefix)
        request.table.append(self._pool.allocate(num_new_blocks))
        request.num_computed_tokens = len(prefix) * self._block_size
        if request.status is RequestStatus.WAITING:  # and not back from preemption
            request.num_cached_tokens = request.num_computed_tokens
            if self._reads_cache(request):
                step.count_prefix(request.num_tokens, request.num_cached_tokens)
        self._waiting.remove(request)
        insort(self._running, request, key=_key)
        request.status = RequestStatus.RUNNING
        step.admitted.append(request.request_id)
        return True

    def _is_still_refused(self, request: Request) -> bool:
        """Whether nothing has happened yet that could change the last refusal.

        Spares a long prompt at the head of the queue from being looked up anew in every step.
        """
        refusal = self._refusal
        if refusal is None or refusal.key != request.key or not self._running:
            return False
        if refusal.num_blocks_needed <= self._pool.num_free:
            return False
        return refusal.missing_hash is None or self._pool.lookup(refusal.missing_hash) is None

    def _limit_prefix(self, request: Request) -> int:
        """How many cached blocks a request may take: one token at least is left to sample from."""
        if not self._reads_cache(request):
            return 0
        request.table.hash_full_blocks(request.token_ids, self._block_size)
        return (request.num_tokens - 1) // self._block_size

    def _reads_cache(self, request: Request) -> bool:
        return request.use_prefix_cache and self._pool.enable_prefix_caching

    # Computing.

    def _choose_chunk(self, request: Request, step: BatchBuilder) -> int:
        chunk = min(request.num_uncomputed_tokens, step.tokens_left)
        cap = self._long_prefill_token_threshold
        is_alone = len(self._requests) == 1
        return chunk if cap == 0 or is_alone else min(chunk, cap)

    def _compute(self, request: Request, num_tokens: int, step: BatchBuilder) -> None:
        """Put a request's next tokens into the step."""
        step.compute(request, num_tokens)
        start = request.num_computed_tokens
        end = start + num_tokens
        request.num_computed_tokens = end
        request.num_ever_computed_tokens = max(request.num_ever_computed_tokens, end)
        request.num_announced_blocks = len(request.table.blocks)
        if self._pool.enable_prefix_caching:
            self._register_filled_blocks(request, start, end)

    def _register_filled_blocks(self, request: Request, start: int, end: int) -> None:
        """Enter the blocks that tokens `start` to `end` (exclusive) fill into the prefix index."""
        table = request.table
        table.hash_full_blocks(request.token_ids, self._block_size)
        for index in range(start // self._block_size, end // self._block_size):
            self._pool.register(table.blocks[index], table.hashes[index])
            self._blocks_in_flight.append(table.blocks[index])

    # Ends.

    def _land(self, batch: Batch) -> list[Block]:
        """Close the step in flight. Returns the blocks that it was to fill."""
        assert batch is self._in_flight, "not the batch that schedule() gave last"
        self._in_flight = None
        blocks, self._blocks_in_flight = self._blocks_in_flight, []
        return blocks

    def _find_scheduled(self, item: ScheduledRequest) -> Request | None:
        """The request behind an item of the batch, or None if it was cancelled meanwhile.

        A new request may bear its id by now, but does not run yet.
        """
        request = self._requests.get(item.request_id)
        if request is None or request.status is not RequestStatus.RUNNING:
            return None
        return request

    def _end_running(self, request: Request) -> None:
        self._stop_running(request)
        self._forget(request)

    def _stop_running(self, request: Request) -> None:
        del self._running[bisect_left(self._running, request.key, key=_key)]
        self._pool.release(request.table.clear())

    def _forget(self, request: Request) -> None:
        request.status = RequestStatus.FINISHED
        del self._requests[request.request_id]


def _key(request: Request) -> SchedulingKey:
    return request.key
