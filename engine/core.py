"""The step loop's body: one scheduler, one block pool, one model runner.

`EngineCore` is what runs inside the engine process and inside `LLM` alike; it knows nothing of
sockets, text or HTTP.
"""

import itertools
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

from ..models.batch import SampledToken
from ..paged_cache import BlockLives, BlockPool
from ..scheduler import Batch, FinishReason, Scheduler
from .constraint_builder import ConstraintBuilder
from .constraints import TokenConstraint, follow
from .device_errors import is_out_of_memory
from .flight import Flight
from .flight_recorder import FlightRecorder
from .grammars import Grammars, needs_constraint
from .live_view import Instants, LiveView
from .messages import EngineStats, SequenceDelta, StepResult, Submit, TokenScore
from .plan import EngineConfig
from .translation import Translation
from .trials import Trials

if TYPE_CHECKING:
    from ..models.step import Runner

logger = logging.getLogger(__name__)

PREEMPTION_LOG_INTERVAL_S = 5.0
SMALLEST_DIVISIBLE_STEP = 32  # tokens: a smaller step that finds no memory has another cause
GRAMMAR_WAIT_S = 0.01  # with nothing else to do; messages wait as long


class EngineCore:
    """Takes sequences in, computes them step by step, and gives their tokens out."""

    def __init__(
        self,
        config: EngineConfig,
        runner: "Runner",
        translation: Translation,
        grammars: Grammars,
        recorder: FlightRecorder | None = None,
    ) -> None:
        self._runner = runner
        sample = config.block_life_sample
        self._lives_of_blocks = BlockLives(sample) if sample > 0.0 else None
        self._pool = BlockPool(
            config.num_blocks, config.enable_prefix_caching, self._lives_of_blocks
        )
        self._scheduler = Scheduler(
            self._pool,
            config.block_size,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_num_seqs=config.max_num_seqs,
            max_model_len=config.max_model_len,
            long_prefill_token_threshold=config.long_prefill_token_threshold,
            policy="priority" if config.scheduling_policy == "priority" else "fcfs",
            watermark_blocks=(config.num_blocks - 1) // 100,
        )
        self._config = config
        self._translation = translation
        self._lives: dict[str, Instants] = {}
        self._builder = ConstraintBuilder(grammars)
        self.live_view = LiveView(
            self._pool, self._scheduler, config.block_size, self._lives, self._builder.waiting
        )
        self._constraints: dict[str, TokenConstraint] = {}
        self._prompt_scores: dict[str, list[TokenScore]] = {}
        self._next_preemption_log = 0.0
        self._trials = Trials(recorder)
        self._flights: deque[Flight] = deque()  # oldest first
        self._last_finished_at = 0.0
        self.failure: str | None = None  # what nobody understands: go on with another engine

    @property
    def num_blocks(self) -> int:
        """Blocks that requests can hold."""
        return self._pool.num_usable

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs, or a step is in flight."""
        return bool(self._scheduler.has_work or self._flights or self._builder.num_waiting)

    @property
    def is_compiling(self) -> bool:
        """Whether all that is to be done is to compile grammars, and these become ready."""
        return self._builder.moves and not (self._flights or self._scheduler.has_work)

    def add(self, submit: Submit) -> None:
        """Queue a sequence. Raises ValueError if its id is in use or it cannot be computed."""
        if submit.request_id in self._lives:
            raise ValueError(f"request id {submit.request_id!r} is in use")
        self._trials.begin(submit.request_id)
        try:
            self._translation.check(submit)
            if needs_constraint(submit.params):
                self._builder.begin(submit)
            else:
                self._enqueue(submit, None)
        except ValueError:
            self._trials.end(submit.request_id)
            raise
        self._lives[submit.request_id] = Instants(queued_at=time.monotonic())

    def cancel(self, request_ids: list[str]) -> list[SequenceDelta]:
        """End these sequences now. Ignores unknown ids.

        Their blocks are free when this returns, or when the steps in flight have ended.
        """
        ended = []
        for request_id in request_ids:
            if self._builder.cancel(request_id):
                ended.append(self._farewell(request_id, FinishReason.ABORT))
            elif self._scheduler.cancel(request_id):
                ended.append(self._end(request_id, FinishReason.ABORT))
        return ended

    def step(self) -> StepResult:
        """Bring one step to its end, and let the device begin the next meanwhile if it may.

        A step for which there is no memory is taken back, and smaller ones follow. Any other
        exception inside the model ends the sequences of that step with an error, gives their blocks
        back and is named by `failure`.
        """
        if self.live_view.is_watched:
            self.live_view.expire()
        refused = self._enqueue_ready() if self._builder.num_waiting else []
        if not self._flights:
            self._launch()
        if self._config.async_scheduling and self._may_run_ahead():
            self._launch()
        if not self._flights:
            return StepResult(tuple(refused), finished_at=time.monotonic(), step_seconds=0.0)
        flight = self._flights.popleft()
        try:
            sampled = flight.wait()
        except Exception as error:
            failed = self._give_up(flight.batch, error)
            return self._result(flight, refused + failed, was_computed=False)
        began = time.monotonic()
        self._note_prompt_scores(flight)
        deltas = refused + self._deliver(flight.batch, sampled, began)
        deliver_seconds = time.monotonic() - began
        return self._result(flight, deltas, was_computed=True, deliver_seconds=deliver_seconds)

    def drain(self) -> None:
        """Wait for the steps in flight, so that what was cancelled has given its blocks back."""
        while self._flights:
            self.step()

    def stats(self, ticket: int = 0) -> EngineStats:
        """The present state of queues and blocks."""
        pool = self._pool
        num_deferred = self._builder.num_waiting
        priorities = [request.key[0] for request in self._scheduler.waiting]
        priorities += [submit.priority for submit in self._builder.waiting()]
        return EngineStats(
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting + num_deferred,
            num_deferred=num_deferred,
            waiting_by_priority=dict(Counter(priorities)),
            blocks_total=pool.num_usable,
            blocks_free=pool.num_free - pool.num_cached,
            blocks_cached=pool.num_cached,
            blocks_used=pool.num_used,
            block_size=self._config.block_size,
            num_preemptions=self._scheduler.num_preemptions,
            num_evictions=pool.num_evictions,
            ticket=ticket,
        )

    def reset_prefix_cache(self) -> int:
        """Forget all cached prefixes. Returns how many blocks had some."""
        return self._pool.reset_prefix_cache()

    def _enqueue(self, submit: Submit, constraint: TokenConstraint | None) -> None:
        """Hand a sequence to scheduler and runner. Raises ValueError as `add` does."""
        spec = self._translation.sampling_spec(submit)
        reads_output = spec.reads_output or constraint is not None
        request = self._translation.request(submit, reads_output=reads_output)
        self._scheduler.add(request)
        self._runner.add_request(
            submit.request_id, submit.prompt_token_ids, spec, constraint, submit.output_token_ids
        )
        if constraint is not None:
            for token_id in submit.output_token_ids:
                constraint.accept(token_id)
            self._constraints[submit.request_id] = constraint
        self._trials.note_queued(submit.request_id)
        if submit.params.prompt_logprobs is not None:
            self._prompt_scores[submit.request_id] = []

    def _enqueue_ready(self) -> list[SequenceDelta]:
        """Enqueue the sequences whose grammar is compiled; those that cannot run end."""
        is_idle = not (self._flights or self._scheduler.has_work)
        refused = []
        for submit, built in self._builder.take_ready(GRAMMAR_WAIT_S if is_idle else 0.0):
            try:
                if isinstance(built, Exception):
                    raise built
                self._enqueue(submit, built)
            except Exception as error:
                logger.warning("%s: %s", submit.request_id, error)
                refused.append(self._farewell(submit.request_id, FinishReason.ERROR, str(error)))
        return refused

    def _may_run_ahead(self) -> bool:
        return (
            len(self._flights) == 1
            and self._flights[0].error is None
            and self._scheduler.can_run_ahead
        )

    def _launch(self) -> None:
        """Schedule a step and hand it to the runner. An error is raised when it is waited for."""
        started = time.monotonic()
        batch = self._scheduler.schedule()
        if not batch.scheduled:
            return
        self._note_schedule(batch, started)
        self._trials.record(itertools.chain((one.batch for one in self._flights), (batch,)))
        scheduled = time.monotonic()
        pending, error = None, None
        try:
            pending = self._runner.launch(batch.scheduled)
        except Exception as caught:
            error = caught
        launched = time.monotonic() - scheduled
        self._flights.append(Flight(batch, started, scheduled - started, launched, pending, error))

    def _deliver(
        self, batch: Batch, sampled: list[SampledToken], began: float
    ) -> list[SequenceDelta]:
        complete, broken = follow(self._constraints, sampled)
        updates = self._scheduler.update(
            batch, {token.request_id: token.token_id for token in sampled}, complete
        )
        scores = {
            token.request_id: (_score(token),) for token in sampled if token.logprob is not None
        }
        self._trials.note_tokens(update.request_id for update in updates)
        deltas = self._first_chunks(batch) if batch.admitted else []
        for update in updates:
            request_id, reason = update.request_id, update.finish_reason
            if request_id in broken:
                self._scheduler.cancel(request_id)
                delta = self._end(request_id, FinishReason.ERROR, broken[request_id])
                deltas.append(msgspec.structs.replace(delta, is_own_fault=True))
                continue
            life = self._lives[request_id]
            life.first_token_at = life.first_token_at or began
            prompt_scores = self._prompt_scores.pop(request_id, ())
            if reason is not None:
                self._forget(request_id)
                del self._lives[request_id]
            deltas.append(
                SequenceDelta(
                    request_id=request_id,
                    token_ids=tuple(update.token_ids),
                    scores=scores.get(request_id, ()),
                    prompt_scores=tuple(prompt_scores),
                    finish_reason=None if reason is None else reason.value,
                    stop_reason=update.stop_reason,
                    num_cached_tokens=update.num_cached_tokens,
                    queued_at=life.queued_at,
                    scheduled_at=life.scheduled_at,
                )
            )
        return deltas

    def _first_chunks(self, batch: Batch) -> list[SequenceDelta]:
        """Tell of those that were admitted and whose prompt takes more than this step."""
        admitted = set(batch.admitted)
        return [
            SequenceDelta(item.request_id, queued_at=life.queued_at, scheduled_at=life.scheduled_at)
            for item in batch.scheduled
            if not item.samples and item.request_id in admitted
            if (life := self._lives.get(item.request_id)) is not None
        ]

    def _note_prompt_scores(self, flight: Flight) -> None:
        """Keep what a step says of prompts until their first token; a preempted prompt repeats."""
        assert flight.pending is not None
        for part in flight.pending.prompt_scores:
            known = self._prompt_scores.get(part.request_id)
            if known is not None:  # else it was cancelled meanwhile
                known[part.first - 1 :] = [TokenScore(*score) for score in part.scores]

    def _give_up(self, batch: Batch, error: Exception) -> list[SequenceDelta]:
        """A step failed: those that build upon it fail with it; without memory it is repeated."""
        failed = [flight.batch for flight in reversed(self._flights)]
        self._flights.clear()
        is_divisible = batch.num_tokens > SMALLEST_DIVISIBLE_STEP
        if not failed and is_out_of_memory(error) and is_divisible:
            for request_id in self._scheduler.retract(batch):
                self._runner.release_row(request_id)
            logger.warning(
                "no memory for a step of %d tokens: steps are smaller from now on; give more room "
                "(--gpu-memory-utilization) or lower --max-num-batched-tokens (%s)",
                batch.num_tokens,
                error,
            )
            return []
        logger.error("a step of %d sequences failed", len(batch.scheduled), exc_info=error)
        self.failure = f"{type(error).__name__}: {error}"
        reason = f"the engine failed to compute this request: {type(error).__name__}"
        return [
            self._end(request_id, FinishReason.ERROR, error=reason)
            for item in (*failed, batch)
            for request_id in self._scheduler.fail(item)
        ]

    def _result(
        self,
        flight: Flight,
        deltas: list[SequenceDelta],
        *,
        was_computed: bool,
        deliver_seconds: float = 0.0,
    ) -> StepResult:
        finished = time.monotonic()
        began = max(flight.launched_at, self._last_finished_at)
        self._last_finished_at = finished
        batch = flight.batch
        return StepResult(
            deltas=tuple(deltas),
            finished_at=finished,
            step_seconds=finished - began,
            num_prompt_tokens=batch.num_prompt_tokens if was_computed else 0,
            num_generation_tokens=sum([len(delta.token_ids) for delta in deltas]),
            prefix_query_tokens=batch.prefix_query_tokens,
            prefix_hit_tokens=batch.prefix_hit_tokens,
            num_preemptions=len(batch.preempted),
            num_recomputed_tokens=batch.recomputed_tokens if was_computed else 0,
            schedule_seconds=flight.schedule_seconds,
            execute_seconds=flight.busy_seconds - flight.sample_seconds,
            sample_seconds=flight.sample_seconds,
            deliver_seconds=deliver_seconds,
            block_lives=self._lives_of_blocks.collect() if self._lives_of_blocks else (),
        )

    def _note_schedule(self, batch: Batch, now: float) -> None:
        for request_id in batch.admitted:
            life = self._lives[request_id]
            life.scheduled_at = life.scheduled_at or now
        for request_id in batch.preempted:
            self._runner.release_row(request_id)
        if batch.preempted and now >= self._next_preemption_log:
            self._next_preemption_log = now + PREEMPTION_LOG_INTERVAL_S
            logger.warning(
                "KV cache is full: preempted %s (%d preemptions so far, %d tokens recomputed); "
                "give more --kv-cache-memory or lower --max-num-seqs if this goes on",
                ", ".join(batch.preempted),
                self._scheduler.num_preemptions,
                self._scheduler.num_recomputed_tokens,
            )

    def _end(
        self, request_id: str, reason: FinishReason, error: str | None = None
    ) -> SequenceDelta:
        """The last that is heard of a sequence that the scheduler has let go of."""
        self._forget(request_id)
        return self._farewell(request_id, reason, error)

    def _farewell(
        self, request_id: str, reason: FinishReason, error: str | None = None
    ) -> SequenceDelta:
        life = self._lives.pop(request_id)
        self._trials.end(request_id)
        return SequenceDelta(
            request_id=request_id,
            finish_reason=reason.value,
            queued_at=life.queued_at,
            scheduled_at=life.scheduled_at,
            error=error,
        )

    def _forget(self, request_id: str) -> None:
        self._trials.end(request_id)
        self._prompt_scores.pop(request_id, None)
        self._constraints.pop(request_id, None)
        self._runner.remove_request(request_id)


def _score(token: SampledToken) -> TokenScore:
    assert token.logprob is not None
    return TokenScore(logprob=token.logprob, top=token.top_logprobs or ())
