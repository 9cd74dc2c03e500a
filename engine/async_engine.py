"""The engine as the server sees it: prompts in, async streams of text deltas out."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .assembler import OutputAssembler
from .client import EngineClient
from .errors import BadRequestError, EngineDeadError, OverloadedError, RequestFailedError
from .form_checker import FormChecker
from .grammars import Grammars
from .launch import EngineProcess
from .messages import EngineStats, SequenceDelta, StepResult, Submit
from .outputs import RequestOutput
from .plan import EngineConfig
from .prepare import make_sequences, validate_request
from .sampling_params import SamplingParams
from .settings import Settings
from .telemetry import FinishedRequest, SilentListener, StepTelemetry, TelemetryListener
from .tokenizer import Tokenizer

logger = logging.getLogger(__name__)

STALLED_AFTER_S = 60.0


@dataclass(frozen=True)
class ModelInfo:
    """What clients may know of the served model."""

    served_names: tuple[str, ...]  # the first labels the metrics
    path: str
    max_model_len: int
    vocab_size: int
    created: int  # Unix seconds


@dataclass(slots=True)
class _Sequence:
    """One choice under way: how to assemble its text, and its instants for the metrics."""

    assembler: OutputAssembler
    inbox: "asyncio.Queue[RequestOutput | Exception]"
    public_id: str
    prompt_tokens: int
    max_tokens: int
    arrived_at: float
    delta: SequenceDelta | None = field(default=None)
    first_token_at: float | None = None
    last_token_at: float | None = None


class RequestStream:
    """Outputs of a request as they are made, those of its choices interleaved.

    Iterate it to the end or `close` it: what is not finished then is cancelled within one step.
    Iterating raises EngineDeadError or RequestFailedError, and closes it.
    """

    def __init__(
        self,
        inbox: "asyncio.Queue[RequestOutput | Exception]",
        num_choices: int,
        abandon: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._num_open = num_choices
        self._abandon = abandon

    def __aiter__(self) -> "RequestStream":
        return self

    async def __anext__(self) -> RequestOutput:
        if self._num_open == 0:
            raise StopAsyncIteration
        output = await self._inbox.get()
        if isinstance(output, Exception):
            self.close()
            raise output
        self._num_open -= output.finish_reason is not None
        return output

    def close(self) -> None:
        """Cancel what is not finished; closing twice does nothing more."""
        self._num_open = 0
        self._abandon()


class AsyncEngine:
    """Serves requests through one engine process, which it owns from now on.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        process: EngineProcess,
        settings: Settings,
        config: EngineConfig,
        info: ModelInfo,
        on_death: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.settings = settings
        self.config = config
        self.info = info
        self.tokenizer: Tokenizer  # set before the first request, while the engine loads
        self.listener: TelemetryListener = SilentListener()
        self._forms = FormChecker(Grammars(lambda: (self.tokenizer, info.vocab_size)))
        self._sequences: dict[str, _Sequence] = {}
        self._tell_death = on_death
        self._client = EngineClient(process, config, self._on_step, self._on_death)
        self._last_step_at = time.monotonic()
        self._busy_since: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether requests can be served now."""
        return self._client.is_ready

    @property
    def last_step_age_s(self) -> float:
        """Seconds that open work has waited for a step to finish; 0 when there is none."""
        if self._busy_since is None:
            return 0.0
        return time.monotonic() - max(self._last_step_at, self._busy_since)

    @property
    def is_stalled(self) -> bool:
        """Whether there is work but no step has finished for a minute."""
        return self.last_step_age_s > STALLED_AFTER_S

    async def start(self) -> None:
        """Let the engine load its model; returns before it is loaded (`wait_ready`)."""
        await self._client.start()

    async def wait_ready(self) -> dict[str, float]:
        """Wait for the model. Returns start-up seconds by phase; raises EngineDeadError."""
        assert self._client.ready is not None
        return await asyncio.shield(self._client.ready)

    async def stop(self) -> None:
        """End every open request and the engine process."""
        self._end_all(EngineDeadError("the server is shutting down"))
        await self._client.stop()
        self._forms.stop()

    async def stats(self) -> EngineStats:
        """Live state of queues and blocks. Raises EngineDeadError."""
        return await self._client.stats()

    async def reset_prefix_cache(self) -> int:
        """Forget all cached prefixes. Returns how many blocks had some; raises EngineDeadError."""
        return await self._client.reset_prefix_cache()

    def config_values(self) -> dict[str, Any]:
        """The engine's configuration, to be shown."""
        return msgspec.structs.asdict(self.config)

    @property
    def num_open(self) -> int:
        """Choices that wait or run."""
        return len(self._sequences)

    def abort(self, public_ids: Collection[str] | None) -> int:
        """End the requests of these ids, or all; what there is of them is their last output.

        Returns how many choices that were.
        """
        chosen = [
            (request_id, sequence)
            for request_id, sequence in self._sequences.items()
            if public_ids is None or sequence.public_id in public_ids
        ]
        self._client.cancel([request_id for request_id, _ in chosen])
        for request_id, sequence in chosen:
            last = sequence.delta or SequenceDelta(request_id)
            end = SequenceDelta(
                request_id,
                finish_reason="abort",
                queued_at=last.queued_at,
                scheduled_at=last.scheduled_at,
            )
            self._deliver(sequence, end, 0.0)
            logger.info("%s: aborted by the operator", request_id)
        return len(chosen)

    def validate(self, prompt_token_ids: list[int], params: SamplingParams) -> SamplingParams:
        """`params` with `max_tokens` filled in. Raises BadRequestError if they cannot work."""
        return validate_request(
            prompt_token_ids,
            params,
            vocab_size=self.info.vocab_size,
            max_model_len=self.info.max_model_len,
            max_logprobs=self.settings.max_logprobs,
        )

    async def check_structured(self, params: SamplingParams) -> None:
        """Compile the structured output, if there is one, beside the event loop.

        Raises BadRequestError if it is no grammar, or one that takes too long; OverloadedError if
        too many are being compiled, or the queue has no room for the request anyway.
        """
        wanted = params.structured
        if wanted is not None and not self._forms.is_known(wanted):
            self.check_capacity(params.n)
            await self._forms.check(wanted)

    def check_capacity(self, num_sequences: int) -> None:
        """Raise OverloadedError if the queue has no room for them, EngineDeadError if not ready."""
        if not self.is_ready:
            raise EngineDeadError("the engine is not ready")
        limit = self.config.max_num_seqs + self.settings.max_queued_requests
        if len(self._sequences) + num_sequences > limit:
            raise OverloadedError(
                f"the queue is full: {len(self._sequences)} sequences are open and {num_sequences} "
                f"more exceed the limit of {limit} (--max-queued-requests); try again later"
            )

    def generate(
        self,
        request_id: str,
        prompts: Sequence[list[int]],
        params: Sequence[SamplingParams],
        *,
        priority: int = 0,
        cache_salt: str = "",
        public_id: str | None = None,
        arrived_at: float | None = None,
    ) -> "RequestStream":
        """Submit a request of one or more prompts; outputs come from the stream it returns.

        `params`, one for each prompt, come from `validate`. The choices of prompt i have the
        indexes from i * n on. `public_id` is what clients know the request by (`abort`),
        `arrived_at` the monotonic instant it came in. Raises
        OverloadedError or EngineDeadError with nothing submitted.
        """
        self.check_capacity(sum(one.n for one in params))
        now = time.monotonic()
        inbox: asyncio.Queue[RequestOutput | Exception] = asyncio.Queue()
        opened: list[tuple[Submit, _Sequence]] = []
        for i, (token_ids, one) in enumerate(zip(prompts, params, strict=True)):
            submits = make_sequences(
                request_id if len(prompts) == 1 else f"{request_id}.{i}",
                token_ids,
                one,
                self.tokenizer,
                priority=priority,
                cache_salt=cache_salt,
            )
            for submit in submits:
                sequence = _Sequence(
                    assembler=OutputAssembler(self.tokenizer, token_ids, one, len(opened)),
                    inbox=inbox,
                    public_id=public_id or request_id,
                    prompt_tokens=len(token_ids),
                    max_tokens=submit.max_tokens,
                    arrived_at=now if arrived_at is None else arrived_at,
                )
                opened.append((submit, sequence))
        self._client.submit([submit for submit, _ in opened])
        self._busy_since = self._busy_since or now
        self._sequences.update((submit.request_id, sequence) for submit, sequence in opened)
        for one in params:
            self.listener.on_request(one.n)
        ids = [submit.request_id for submit, _ in opened]
        return RequestStream(inbox, len(opened), lambda: self._abandon(ids))

    def _abandon(self, ids: list[str]) -> None:
        """Cancel those of the sequences that are still open."""
        open_ids = [request_id for request_id in ids if request_id in self._sequences]
        if not open_ids:
            return
        self._client.cancel(open_ids)
        for request_id in open_ids:
            self._close(request_id, "abort")
        logger.info("%s: cancelled", open_ids[0] if len(open_ids) == 1 else ", ".join(open_ids))

    def _on_step(self, result: StepResult) -> None:
        self._last_step_at = time.monotonic()
        if result.step_seconds > 0.0:
            self.listener.on_step(
                StepTelemetry(
                    num_prompt_tokens=result.num_prompt_tokens,
                    num_generation_tokens=result.num_generation_tokens,
                    prefix_query_tokens=result.prefix_query_tokens,
                    prefix_hit_tokens=result.prefix_hit_tokens,
                    num_preemptions=result.num_preemptions,
                    num_recomputed_tokens=result.num_recomputed_tokens,
                    step_seconds=result.step_seconds,
                )
            )
        for delta in result.deltas:
            sequence = self._sequences.get(delta.request_id)
            if sequence is not None:  # else it was cancelled here while the step ran
                self._deliver(sequence, delta, result.finished_at)

    def _deliver(self, sequence: _Sequence, delta: SequenceDelta, at: float) -> None:
        sequence.delta = delta
        if delta.error is not None:
            self._close(delta.request_id, "error")
            kind = BadRequestError if delta.is_own_fault else RequestFailedError
            sequence.inbox.put_nowait(kind(delta.error))
            return
        if delta.token_ids:
            self._note_tokens(sequence, delta, at)
        try:
            output = sequence.assembler.push(delta)
        except Exception as error:
            logger.exception("%s: assembling its text failed", delta.request_id)
            self._client.cancel([delta.request_id])
            self._close(delta.request_id, "error")
            sequence.inbox.put_nowait(RequestFailedError(f"internal error: {type(error).__name__}"))
            return
        if output is None:
            return
        if output.finish_reason is not None:
            if delta.finish_reason is None:  # a stop string: the engine does not know
                self._client.cancel([delta.request_id])
            self._close(delta.request_id, output.finish_reason)
        sequence.inbox.put_nowait(output)

    def _note_tokens(self, sequence: _Sequence, delta: SequenceDelta, at: float) -> None:
        if sequence.last_token_at is None:
            sequence.first_token_at = at
            ttft = time.monotonic() - sequence.arrived_at
            self.listener.on_first_token(ttft, sequence.prompt_tokens, delta.num_cached_tokens)
        else:
            self.listener.on_inter_token(at - sequence.last_token_at)
        sequence.last_token_at = at

    def _close(self, request_id: str, finish_reason: str) -> None:
        sequence = self._sequences.pop(request_id)
        if not self._sequences:
            self._busy_since = None
        first, last, delta = sequence.first_token_at, sequence.last_token_at, sequence.delta
        scheduled_at = delta.scheduled_at if delta is not None else 0.0
        was_scheduled = delta is not None and scheduled_at > 0.0
        generated = sequence.assembler.num_output_tokens
        decode = None if first is None or last is None else last - first
        self.listener.on_finished(
            FinishedRequest(
                prompt_tokens=sequence.prompt_tokens,
                generation_tokens=generated,
                cached_tokens=sequence.assembler.num_cached_tokens,
                max_tokens=sequence.max_tokens,
                finish_reason=finish_reason,
                e2e_s=time.monotonic() - sequence.arrived_at,
                queue_s=scheduled_at - delta.queued_at if delta and was_scheduled else None,
                prefill_s=first - scheduled_at if first is not None and was_scheduled else None,
                decode_s=decode,
                inference_s=last - scheduled_at if last is not None and was_scheduled else None,
                tpot_s=None if decode is None else decode / max(1, generated - 1),
            )
        )

    def _on_death(self, reason: str) -> None:
        logger.error("the engine is dead: %s", reason)
        self._end_all(EngineDeadError(reason))
        self._tell_death(reason)

    def _end_all(self, error: Exception) -> None:
        for request_id, sequence in list(self._sequences.items()):
            self._close(request_id, "error")
            sequence.inbox.put_nowait(error)
