"""The engine as the server sees it: prompts in, async streams of text deltas out."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from .engine_link import EngineLink
from .errors import (
    BadRequestError,
    EngineDeadError,
    NotFoundError,
    NotReadyError,
    RequestFailedError,
)
from .form_checker import FormChecker
from .grammars import Grammars
from .messages import (
    BlockDetail,
    EngineStats,
    EngineStatus,
    Frame,
    GetBlock,
    GetFrame,
    GetStats,
    PrefixCacheReset,
    ResetPrefixCache,
    SequenceDelta,
    StepResult,
)
from .model_info import ModelInfo
from .open_choice import OpenChoice, OpenPrompt, open_choices
from .open_choices import OpenChoices
from .output_inbox import OutputInbox
from .plan import EngineConfig
from .prepare import bad_word_ids, make_sequences, validate_params, validate_prompt
from .request_stream import RequestStream
from .sampling_params import SamplingParams
from .settings import Settings
from .telemetry import RequestOrigin, TelemetryListener
from .tokenizer import Tokenizer
from .waiting_room import DEADLINE, WaitingRoom

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 10.0
NOWHERE = RequestOrigin()


class AsyncEngine:
    """Serves requests through an engine, of which it lets go when it stops.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        link: EngineLink,
        settings: Settings,
        config: EngineConfig,
        info: ModelInfo,
        on_death: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.settings = settings
        self.config = config
        self.info = info
        self.tokenizer: Tokenizer  # set before the first request, while the engine loads
        self._forms = FormChecker(Grammars(lambda: (self.tokenizer, info.vocab_size)))
        self._open = OpenChoices()
        self._tell_death = on_death
        self._waiting = WaitingRoom(
            config.max_num_seqs + settings.max_queued_requests,
            settings.max_queued_tokens,
            settings.queue_timeout,
            self._expire,
        )
        self._link = link
        self._is_closed = False

    @property
    def listeners(self) -> list[TelemetryListener]:
        """Who is told of requests and steps; add to it before the first request."""
        return self._open.listeners

    @property
    def status(self) -> EngineStatus:
        """How the engine is, and how much is open, of all front ends."""
        return self._link.status

    @property
    def is_stalled(self) -> bool:
        """Whether there is work but no step has finished for `--engine-timeout`."""
        return self.status.last_step_age_s > self.settings.engine_timeout

    async def start(self) -> None:
        """Let the engine load its model; returns before it is loaded (`wait_ready`)."""
        await self._link.start(self._on_step, self._on_end, self.abort)

    async def wait_ready(self) -> dict[str, float]:
        """Wait for the model. Returns start-up seconds by phase; raises EngineDeadError."""
        return await self._link.wait_ready()

    async def stop(self) -> None:
        """End every open request, and let go of the engine."""
        self._end_all(EngineDeadError("the server is shutting down"))
        await self._link.stop()
        self._forms.stop()

    async def stats(self, timeout_s: float) -> EngineStats:
        """Live state of queues and blocks. Raises EngineDeadError without an answer in time."""
        answer = await self._link.ask(GetStats, timeout_s)
        assert isinstance(answer, EngineStats)
        return answer

    async def reset_prefix_cache(self) -> int:
        """Forget all cached prefixes. Returns how many blocks had some; raises EngineDeadError."""
        answer = await self._link.ask(ResetPrefixCache, ANSWER_TIMEOUT_S)
        assert isinstance(answer, PrefixCacheReset)
        return answer.num_blocks

    async def frame(self, since: int) -> Frame:
        """What blocks and requests do; `since` is the last frame's version, or 0.

        Raises EngineDeadError without an answer.
        """
        answer = await self._link.ask(lambda ticket: GetFrame(since, ticket), ANSWER_TIMEOUT_S)
        assert isinstance(answer, Frame)
        return answer

    async def block(self, block_id: int, *, with_content: bool) -> BlockDetail:
        """Who holds a block. Raises NotFoundError if there is none of this number, EngineDeadError.

        `with_content` adds the ids of its tokens, and the hash that they can be guessed by.
        """
        num_blocks = self.status.num_blocks
        if not 1 <= block_id <= num_blocks:
            raise NotFoundError(f"There is no block {block_id}: blocks are 1 to {num_blocks}.")
        answer = await self._link.ask(
            lambda ticket: GetBlock(block_id, with_content, ticket), ANSWER_TIMEOUT_S
        )
        assert isinstance(answer, BlockDetail)
        return answer

    def config_values(self) -> dict[str, Any]:
        """The engine's configuration, to be shown."""
        return msgspec.structs.asdict(self.config)

    def close(self) -> None:
        """Take no more requests: `generate` raises EngineDeadError from now on."""
        self._is_closed = True

    async def abort_everywhere(self, public_ids: Collection[str] | None, reason: str) -> int:
        """`abort`, of all front ends. Raises EngineDeadError if one of them does not answer."""
        here = self.abort(public_ids, reason)
        ids = None if public_ids is None else tuple(public_ids)
        return here + await self._link.abort_elsewhere(ids, reason)

    def abort(self, public_ids: Collection[str] | None, reason: str) -> int:
        """End this front end's requests of these ids, or all.

        What there is of them is their last output; `reason` is for the metrics. Returns how many
        choices that were.
        """
        chosen = [
            choice
            for choice in self._open
            if public_ids is None or choice.prompt.public_id in public_ids
        ]
        self._abort(chosen, reason)
        return len(chosen)

    def _abort(self, choices: list[OpenChoice], reason: str) -> None:
        self._link.cancel([choice.submit.request_id for choice in choices])
        for choice in choices:
            request_id = choice.submit.request_id
            last = choice.delta or SequenceDelta(request_id)
            end = SequenceDelta(
                request_id,
                finish_reason="abort",
                queued_at=last.queued_at,
                scheduled_at=last.scheduled_at,
            )
            self._deliver(choice, end, 0.0, abort_reason=reason)
            logger.info("%s: aborted (%s)", request_id, reason)

    def validate(
        self, prompts: Sequence[list[int]], params: SamplingParams
    ) -> list[SamplingParams]:
        """`params` for each prompt, with `max_tokens` filled in.

        Raises BadRequestError if they, or a prompt, cannot work.
        """
        vocab_size = self.info.vocab_size
        most = self.settings.max_logprobs
        params = validate_params(params, vocab_size=vocab_size, max_logprobs=most)
        length = self.info.max_model_len
        return [
            validate_prompt(prompt, params, vocab_size=vocab_size, max_model_len=length)
            for prompt in prompts
        ]

    async def check_structured(self, params: SamplingParams) -> None:
        """Compile the structured output, if there is one, beside the event loop.

        Raises BadRequestError if it is no grammar, or one that takes too long; OverloadedError if
        too many are being compiled.
        """
        wanted = params.structured
        if wanted is not None and not self._forms.is_known(wanted):
            await self._forms.check(wanted)

    def preparing(self, num_choices: int) -> AbstractContextManager[None]:
        """Keep room for a request's choices while their prompts are made.

        Raises as `generate` does. Who is submitted in the same turn of the loop in which this ends
        finds the room still there.
        """
        self._check_open()
        return self._waiting.preparing(len(self._open), num_choices)

    def reading(self) -> AbstractContextManager[None]:
        """Count a text that is only tokenized. Raises OverloadedError if too many are prepared."""
        return self._waiting.preparing(0, 1)

    def _check_open(self) -> None:
        """Raise NotReadyError if the engine is not there; while a lost one is replaced, it is."""
        if self._is_closed:
            raise NotReadyError("the server is shutting down")
        if not self._link.takes_requests:
            raise NotReadyError("the engine is not ready")

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
        timeout_s: float | None = None,
        origin: RequestOrigin = NOWHERE,
    ) -> RequestStream:
        """Submit a request of one or more prompts; outputs come from the stream it returns.

        `params`, one for each prompt, come from `validate`. The choices of prompt i have the
        indexes from i * n on. `public_id` is what clients know the request by (`abort`),
        `arrived_at` the monotonic instant it came in, `timeout_s` what it may take from there,
        `origin` is handed to the listeners. Raises OverloadedError, EngineDeadError, or
        BadRequestError for more choices than there ever is room for, with nothing submitted.
        """
        self._check_open()
        num_choices = sum(one.n for one in params)
        num_tokens = sum(len(ids) * one.n for ids, one in zip(prompts, params, strict=True))
        self._waiting.check(len(self._open), num_choices, num_tokens)
        arrived_at = time.monotonic() if arrived_at is None else arrived_at
        deadline = None if timeout_s is None else arrived_at + timeout_s
        inbox = OutputInbox()
        opened: list[OpenChoice] = []
        # All prompts have the same, as a rule, and a batch may be of a thousand.
        banned = {
            words: bad_word_ids(words, self.tokenizer)
            for words in {one.bad_words for one in params}
        }
        for i, (token_ids, one) in enumerate(zip(prompts, params, strict=True)):
            sequences = make_sequences(
                request_id if len(prompts) == 1 else f"{request_id}.{i}",
                token_ids,
                one,
                self.tokenizer,
                banned[one.bad_words],
                priority=priority,
                cache_salt=cache_salt,
            )
            prompt = OpenPrompt(
                public_id=public_id or request_id,
                origin=origin,
                prompt_tokens=len(token_ids),
                arrived_at=arrived_at,
                num_open=len(sequences),
            )
            opened += open_choices(prompt, sequences, self.tokenizer, inbox, first=len(opened))
        submits = [choice.submit for choice in opened]
        self._link.check(submits)
        for choice in opened:
            self._waiting.enter(choice, deadline)
        self._open.add(opened)
        self._link.submit(submits)
        for listener in self.listeners:
            for one in params:
                listener.on_request(one.n)
        return RequestStream(inbox, len(opened), lambda: self._abandon(opened))

    def _abandon(self, choices: list[OpenChoice]) -> None:
        """Cancel those of the choices that are still open: nobody reads them any more."""
        left = [choice for choice in choices if not choice.is_closed]
        if not left:
            return
        ids = [choice.submit.request_id for choice in left]
        self._link.cancel(ids)
        for choice in left:
            self._close(choice, "abort", abort_reason="client_gone")
        logger.info("%s: cancelled", ", ".join(ids))

    def _expire(self, choice: OpenChoice, reason: str) -> None:
        """A choice has waited, or taken, too long."""
        request_id = choice.submit.request_id
        if reason == DEADLINE and choice.assembler.num_output_tokens:
            self._abort([choice], reason)
            return
        self._link.cancel([request_id])
        self._fail(choice, self._waiting.explain(reason), "abort", reason)
        logger.info("%s: given up (%s)", request_id, reason)

    def _on_step(self, result: StepResult) -> None:
        if result.step_seconds > 0.0:
            for listener in self.listeners:
                listener.on_step(result)
        for delta in result.deltas:
            choice = self._open.get(delta.request_id)
            if choice is not None:  # else it was cancelled here while the step ran
                self._deliver(choice, delta, result.finished_at)

    def _deliver(
        self, choice: OpenChoice, delta: SequenceDelta, at: float, abort_reason: str | None = None
    ) -> None:
        if choice.first_token_at is None:  # later, the instants are those of another engine
            choice.delta = delta
        if delta.scheduled_at:
            self._waiting.note_scheduled(choice)
        if delta.error is not None:
            if delta.is_own_fault:  # a 400 for its client, and no failure of ours
                self._fail(choice, BadRequestError(delta.error), "abort", "invalid")
            else:
                self._fail(choice, RequestFailedError(delta.error))
            return
        if delta.token_ids:
            self._open.note_tokens(choice, delta, at)
        try:
            output = choice.assembler.push(delta)
        except Exception as error:
            logger.exception("%s: assembling its text failed", delta.request_id)
            self._link.cancel([delta.request_id])
            self._fail(choice, RequestFailedError(f"internal error: {type(error).__name__}"))
            return
        if output is None:
            return
        if output.finish_reason is not None:
            if delta.finish_reason is None:  # a stop string: the engine does not know
                self._link.cancel([delta.request_id])
            self._close(choice, output.finish_reason, abort_reason)
        choice.inbox.put_nowait(output)

    def _fail(
        self,
        choice: OpenChoice,
        error: Exception,
        reason: str = "error",
        abort_reason: str | None = None,
    ) -> None:
        """End a choice with an error instead of an output."""
        self._close(choice, reason, abort_reason)
        choice.inbox.put_nowait(error)

    def _close(self, choice: OpenChoice, reason: str, abort_reason: str | None = None) -> None:
        self._open.close(choice, reason, abort_reason)
        self._waiting.leave(choice)

    def _on_end(self, reason: str) -> None:
        """There will be no engine any more."""
        self._end_all(EngineDeadError(reason))
        self._tell_death(reason)

    def _end_all(self, error: Exception) -> None:
        for choice in self._open:
            self._fail(choice, error)
