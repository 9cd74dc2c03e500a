"""Continuous batching: which tokens are computed in the next step.

Every request is a number of computed tokens chasing a number of known tokens. One step computes
tokens of many requests under one budget, whether they belong to prompts or were just sampled.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import Literal

from ..paged_cache import BlockPool
from .admission import Admission
from .batch import PENDING, Batch, RequestUpdate, ScheduledRequest
from .batch_builder import BatchBuilder
from .feasibility import check_feasible
from .in_flight import MAX_IN_FLIGHT, StepInFlight, StepsInFlight
from .registration import Registration
from .request import COMPLETE, Request, RequestStatus, SchedulingKey
from .waiting_queue import WaitingQueue


class Scheduler:
    """Moves requests between waiting and running, and is alone to do so.

    Requests are ordered by priority, then arrival (`policy="fcfs"` takes all priorities as equal).
    The first in that order among the running is never preempted and computes at least one token in
    every step (but for a step ahead, if it has reached its limit). A request that waits is admitted
    when all its known tokens fit into free blocks, so only sampled tokens ever take further blocks,
    and only they may preempt.

    One step is `schedule()`, then `update()` with what was sampled, or `fail()` or `retract()`. Its
    cost depends on the scheduled tokens only: nothing scans the queue, the pool, or a context.
    While a step is in flight the next may be scheduled ahead if `can_run_ahead`, with pending
    tokens in place of those that are not known yet; nothing is preempted then, and the blocks of
    what ends meanwhile are held until the last step that might write them has landed.

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
        self._max_num_seqs = max_num_seqs
        self._max_model_len = max_model_len
        self._long_prefill_token_threshold = long_prefill_token_threshold
        self._watermark_blocks = watermark_blocks
        self._ignore_priority = policy == "fcfs"
        self._requests: dict[str, Request] = {}
        self._waiting = WaitingQueue()
        self._running: list[Request] = []  # sorted by key
        self._arrivals = count(1)
        self._admission = Admission(pool, block_size)
        self._in_flight = StepsInFlight(pool)
        self._registration = Registration(pool, block_size)
        self.num_preemptions = 0
        self.num_recomputed_tokens = 0
        self.set_token_budget(max_num_batched_tokens)

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs. With none in flight, `schedule()` then has tokens."""
        return bool(self._requests)

    @property
    def can_run_ahead(self) -> bool:
        """Whether a further step can be scheduled before the one in flight has landed.

        Not if that needed a preemption, or a request whose sampling reads pending tokens.
        """
        if len(self._in_flight) == MAX_IN_FLIGHT:
            return False
        block_size, num_blocks_needed = self._block_size, 0
        for request in self._running:
            if request.reads_output and request.num_pending_tokens:
                return False
            if request.num_computed_tokens % block_size == 0 and self._lacks_block(request):
                num_blocks_needed += request.num_tokens < request.max_num_tokens
        return num_blocks_needed <= self._pool.num_free

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for admission, preempted ones included."""
        return len(self._waiting)

    @property
    def running(self) -> Sequence[Request]:
        """The requests that hold blocks, in order; only to be looked at."""
        return self._running

    @property
    def waiting(self) -> Iterable[Request]:
        """The requests that wait, in no order; only to be looked at."""
        return self._waiting

    def add(self, request: Request) -> None:
        """Queue a new request.

        Raises ValueError if its id is in use, its prompt is empty, or it could outgrow the context
        or the whole pool, and so might never finish.
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
        """Forget a request in whatever state and free its blocks. False if it is not known.

        While steps are in flight its blocks are free when the newest has landed.
        """
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
        values for the whole batch before any of the batch reads them. A batch without items is
        not in flight.
        """
        assert len(self._in_flight) == 0 or self.can_run_ahead
        step = BatchBuilder(self._max_num_batched_tokens)
        self._schedule_decodes(step)
        self._schedule_prefills(step)
        if not step.preempted:
            self._admit_waiting(step)
        batch = step.build()
        self.num_recomputed_tokens += batch.recomputed_tokens
        if batch.scheduled:
            filled = self._registration.take_filled()
            self._in_flight.launch(StepInFlight(batch, step.requests, filled))
        return batch

    def update(
        self, batch: Batch, sampled: Mapping[str, int], complete: Collection[str] = ()
    ) -> list[RequestUpdate]:
        """Append the sampled tokens (by request id) and finish the requests that stop.

        Those of `complete` stop with this one; those cancelled since `schedule()` are passed over.
        """
        if not batch.scheduled:
            return []
        step = self._in_flight.land(batch)
        step_ahead = self._in_flight.newest if self._pool.enable_prefix_caching else None
        running = RequestStatus.RUNNING  # an enum's attribute is slow to read
        updates = []
        for item, request in zip(batch.scheduled, step.requests, strict=True):
            if request.status is not running or not item.samples:
                continue
            token_id = sampled[item.request_id]
            token_ids = request.token_ids
            token_ids.append(token_id)
            num_known = len(token_ids)
            if step_ahead is not None:
                self._registration.register_known(request, step_ahead)
            finish = None
            if item.request_id in complete:
                finish = COMPLETE
            elif num_known >= request.max_num_tokens or token_id in request.ending_token_ids:
                num_output_tokens = num_known - request.num_prompt_tokens
                finish = request.stop_rule.check(token_id, num_output_tokens, num_known)
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
        """End the requests of the newest batch, which could not be computed. Returns their ids.

        What the batch was to write must not be found as cached content by anyone.
        """
        step = self._in_flight.withdraw(batch)
        ended = []
        for request in step.requests:
            if request.status is RequestStatus.RUNNING:
                self._end_running(request)
                ended.append(request.request_id)
        return ended

    def retract(self, batch: Batch) -> list[str]:
        """Take back the only batch in flight, which was too large to compute, and compute less.

        Everyone who runs waits again, as after a preemption, and the token budget becomes half of
        what was too much. Returns the ids of those sent back.
        """
        step = self._in_flight.withdraw(batch)
        assert len(self._in_flight) == 0
        for item, request in zip(batch.scheduled, step.requests, strict=True):
            request.num_tokens -= item.samples
        sent_back = self._running[::-1]
        for request in sent_back:
            self._send_back(request)
        self.set_token_budget(max(1, batch.num_tokens // 2))
        return [request.request_id for request in sent_back]

    def set_token_budget(self, num_tokens: int) -> None:
        """Compute at most so many tokens a step from now on, with as many requests running."""
        assert len(self._running) <= num_tokens
        self._max_num_batched_tokens = num_tokens
        # Each running request gets a token in every step, so no more may run than there are tokens.
        self._max_num_running = min(self._max_num_seqs, num_tokens)

    # The three passes of a step.

    def _schedule_decodes(self, step: BatchBuilder) -> None:
        """One token for every running request that lacks just one, before any prompt takes its.

        Long prompts thus never starve decodes. The walk is in key order and the victim is always
        the last, so a request scheduled in this step is never preempted in it. Scheduling
        spends most of its time here, so the loop spells out what `_compute` does for one token.
        """
        block_size, scheduled, requests = self._block_size, step.scheduled, step.requests
        is_caching = self._pool.enable_prefix_caching
        for request in self._running:  # which preemption shortens from the end
            start = request.num_computed_tokens
            end = start + 1
            if request.num_tokens > end:
                step.prefills.append(request)
                continue
            if end >= request.max_num_tokens:  # it ends with its pending token
                continue
            new_block_ids: list[int] = []
            if start % block_size == 0 and self._lacks_block(request):
                if not self._make_room(request, step):
                    continue
                new_block_ids = [request.table.blocks[-1].block_id]
            token_ids = request.token_ids
            requests.append(request)
            scheduled.append(
                ScheduledRequest(
                    request_id=request.request_id,
                    token_ids=[token_ids[start] if start < len(token_ids) else PENDING],
                    start=start,
                    first_block=request.num_announced_blocks,
                    new_block_ids=new_block_ids,
                    samples=True,
                )
            )
            if new_block_ids:
                request.num_announced_blocks += 1
            if start < request.num_prompt_tokens or start < request.num_lost_tokens:
                step.count_origin(request, start, end)
            request.num_computed_tokens = end
            request.num_tokens = end + 1
            if is_caching and end % block_size == 0:
                self._registration.register_filled(request, start, end)
        step.tokens_left -= len(scheduled)

    def _schedule_prefills(self, step: BatchBuilder) -> None:
        """Share what is left of the budget among running prompts. They have all their blocks."""
        for request in step.prefills:
            if step.tokens_left == 0:
                break
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
        """Add a block to the request's table. False if that cost the request itself."""
        while self._pool.num_free == 0:
            assert len(self._in_flight) == 0, "a step in flight writes the victim's blocks"
            victim = self._running[-1]
            self._preempt(victim, step)
            if victim is request:
                return False
        request.table.append(self._pool.allocate(1))
        return True

    def _lacks_block(self, request: Request) -> bool:
        """Whether the slot after its computed tokens lies in a block that it does not have."""
        return request.num_computed_tokens == len(request.table.blocks) * self._block_size

    def _preempt(self, victim: Request, step: BatchBuilder) -> None:
        self._send_back(victim)
        victim.num_preemptions += 1
        self.num_preemptions += 1
        step.preempted.append(victim.request_id)

    def _send_back(self, request: Request) -> None:
        """Let a running request wait again; its blocks stay as cache while nobody needs them."""
        assert request.num_pending_tokens == 0
        self._stop_running(request)
        request.status = RequestStatus.PREEMPTED
        request.num_lost_tokens = max(request.num_lost_tokens, request.num_computed_tokens)
        request.num_computed_tokens = 0
        request.num_announced_blocks = 0
        self._waiting.push(request)

    # Admission.

    def _admit(self, request: Request, step: BatchBuilder) -> bool:
        """Take every block that the known tokens need, cached prefix first; or change nothing."""
        num_reserved = self._watermark_blocks if self._running else 0
        num_hit_blocks = self._admission.fill_table(request, num_reserved, bool(self._running))
        if num_hit_blocks is None:
            return False
        request.num_computed_tokens = num_hit_blocks * self._block_size
        if request.status is RequestStatus.WAITING:  # and not back from preemption
            request.num_cached_tokens = request.num_computed_tokens
            if self._admission.reads_cache(request):
                step.count_prefix(request.num_tokens, request.num_cached_tokens)
        self._waiting.remove(request)
        insort(self._running, request, key=_key)
        request.status = RequestStatus.RUNNING
        step.admitted.append(request.request_id)
        return True

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
        request.num_tokens += end == request.num_tokens  # what it samples is pending
        request.num_announced_blocks = len(request.table.blocks)
        if self._pool.enable_prefix_caching:
            self._registration.register_filled(request, start, end)

    # Ends.

    def _end_running(self, request: Request) -> None:
        self._stop_running(request)
        self._forget(request)

    def _stop_running(self, request: Request) -> None:
        del self._running[bisect_left(self._running, request.key, key=_key)]
        self._in_flight.give_up(request.table.clear())

    def _forget(self, request: Request) -> None:
        request.status = RequestStatus.FINISHED
        del self._requests[request.request_id]


def _key(request: Request) -> SchedulingKey:
    return request.key
