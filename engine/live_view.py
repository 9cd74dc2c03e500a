"""The engine's side of the dashboard: frames of blocks and requests, while somebody asks."""

import heapq
import hmac
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ..paged_cache import BlockPool
from ..scheduler import BlockState, BlockWatch, Request, Scheduler
from .messages import BlockDetail, BlockHolder, Frame, GetBlock, GetFrame, RequestRow, Submit

PATIENCE_S = 5.0  # without a question for so long nobody watches any more
MAX_RUNNING_ROWS = 256
MAX_WAITING_ROWS = 64


@dataclass(slots=True)
class Instants:
    """When a sequence came, was first scheduled, gave its first token (monotonic; 0: not yet)."""

    queued_at: float
    scheduled_at: float = 0.0
    first_token_at: float = 0.0


class LiveView:
    """Answers `GetFrame` and `GetBlock`; keeps a watch on the blocks as long as somebody asks.

    `lives` has the instants of every sequence in the engine, `deferred` gives those that wait for
    their grammar and are unknown to the scheduler.
    """

    def __init__(
        self,
        pool: BlockPool,
        scheduler: Scheduler,
        block_size: int,
        lives: Mapping[str, Instants],
        deferred: Callable[[], Iterable[Submit]],
    ) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._block_size = block_size
        self._lives = lives
        self._deferred = deferred
        self._secret = secrets.token_bytes(32)
        self._watch: BlockWatch | None = None
        self._watched_until = 0.0

    @property
    def is_watched(self) -> bool:
        """Whether the blocks are being followed, which costs a little."""
        return self._watch is not None

    def expire(self) -> None:
        """Stop following the blocks if nobody has asked for a while."""
        if self._watch is not None and time.monotonic() > self._watched_until:
            self._watch.stop()
            self._watch = None

    def frame(self, question: GetFrame) -> Frame:
        """The present state; of the blocks only what changed since the frame that is known."""
        watch = self._looking()
        is_full, runs = watch.runs_since(question.since)
        pool, scheduler = self._pool, self._scheduler
        deferred = list(self._deferred())
        return Frame(
            version=watch.version,
            is_full=is_full,
            runs=runs,
            blocks_free=pool.num_free - pool.num_cached,
            blocks_cached=pool.num_cached,
            blocks_used=pool.num_used,
            blocks_shared=watch.num_shared,
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting + len(deferred),
            requests=tuple(self._rows(watch, deferred)),
            ticket=question.ticket,
        )

    def block(self, question: GetBlock) -> BlockDetail:
        """Who holds a block, and the name of its content. The number must be a usable block's."""
        watch = self._looking()
        block = self._pool.block(question.block_id)
        holders = watch.holders_of(question.block_id)
        places = [(request, request.table.blocks.index(block)) for request in holders]
        token_ids: Sequence[int] = ()
        if places and question.with_content:
            request, index = places[0]
            start = index * self._block_size
            token_ids = request.token_ids[start : start + self._block_size]
        return BlockDetail(
            block_id=question.block_id,
            state=BlockState.of(block).name.lower(),
            holders=tuple(BlockHolder(request.request_id, index) for request, index in places),
            content_hash=self._shown_hash(block.block_hash, as_it_is=question.with_content),
            token_ids=tuple(token_ids),
            ticket=question.ticket,
        )

    def _shown_hash(self, block_hash: bytes | None, *, as_it_is: bool) -> str | None:
        """A block's hash is of its tokens and the hash before: who knows both can try out tokens.

        Keyed with a secret it still is the same for the same content, which is all that a viewer
        needs.
        """
        if block_hash is None:
            return None
        shown = block_hash if as_it_is else hmac.digest(self._secret, block_hash, "sha256")
        return shown.hex()

    def _looking(self) -> BlockWatch:
        now = time.monotonic()
        self._watched_until = now + PATIENCE_S
        if self._watch is None:
            # The clock: a version that an earlier watch, or another engine, gave out is lower.
            self._watch = BlockWatch(self._pool, version=int(now * 1e6))
        self._watch.look(self._scheduler.running)
        return self._watch

    def _rows(self, watch: BlockWatch, deferred: Sequence[Submit]) -> Iterable[RequestRow]:
        now = time.monotonic()
        scheduler = self._scheduler
        for request in itertools.islice(scheduler.running, MAX_RUNNING_ROWS):
            is_prefill = request.num_computed_tokens < request.num_prompt_tokens
            stage = "prefill" if is_prefill else "decode"
            yield self._row(request, watch.owner_number(request.request_id), stage, now)
        first = heapq.nsmallest(MAX_WAITING_ROWS, scheduler.waiting, key=attrgetter("key"))
        for request in first:
            yield self._row(request, 0, "queue", now)
        for submit in deferred[: MAX_WAITING_ROWS - len(first)]:
            yield RequestRow(
                owner=0,
                request_id=submit.request_id,
                stage="queue",
                prompt_tokens=len(submit.prompt_token_ids),
                output_tokens=len(submit.output_token_ids),
                max_tokens=submit.max_tokens,
                queue_s=now - self._lives[submit.request_id].queued_at,
            )

    def _row(self, request: Request, owner: int, stage: str, now: float) -> RequestRow:
        life = self._lives[request.request_id]
        scheduled_at = life.scheduled_at or now
        first_token_at = life.first_token_at or now
        return RequestRow(
            owner=owner,
            request_id=request.request_id,
            stage=stage,
            prompt_tokens=request.num_prompt_tokens,
            computed_tokens=request.num_computed_tokens,
            cached_tokens=request.num_cached_tokens,
            output_tokens=len(request.token_ids) - request.num_prompt_tokens,
            max_tokens=request.max_num_tokens - request.num_prompt_tokens,
            num_blocks=len(request.table.blocks),
            num_preemptions=request.num_preemptions,
            queue_s=scheduled_at - life.queued_at,
            prefill_s=first_token_at - scheduled_at,
            decode_s=now - first_token_at,
        )
