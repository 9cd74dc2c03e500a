"""A choice under way, as the front end knows it: its text so far, and its instants."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from .assembler import OutputAssembler
from .messages import SequenceDelta, Submit
from .output_inbox import OutputInbox
from .telemetry import FinishedChoice, FinishedPrompt, RequestOrigin
from .tokenizer import Tokenizer


@dataclass(slots=True)
class OpenPrompt:
    """What the choices of one prompt have in common."""

    public_id: str
    origin: RequestOrigin
    prompt_tokens: int
    arrived_at: float
    num_open: int
    generation_tokens: int = 0
    longest_choice: int = 0

    def close_one(self, generation_tokens: int) -> FinishedPrompt | None:
        """A choice has ended with so many tokens. Returns the whole if it was the last."""
        self.num_open -= 1
        self.generation_tokens += generation_tokens
        self.longest_choice = max(self.longest_choice, generation_tokens)
        if self.num_open > 0:
            return None
        return FinishedPrompt(
            self.origin, self.prompt_tokens, self.generation_tokens, self.longest_choice
        )


@dataclass(slots=True)
class OpenChoice:
    """One choice: how to assemble its text, where it goes, and its instants for the metrics."""

    prompt: OpenPrompt
    submit: Submit
    assembler: OutputAssembler
    inbox: OutputInbox
    delta: SequenceDelta | None = None  # the newest
    first_token_at: float | None = None
    last_token_at: float | None = None
    is_waiting: bool = False  # for its first step
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    is_closed: bool = False

    def finished(
        self, request_id: str, finish_reason: str, abort_reason: str | None, ended_at: float
    ) -> FinishedChoice:
        """Its whole life, now that it has ended."""
        delta = self.delta
        was_scheduled = delta is not None and delta.scheduled_at > 0.0
        return FinishedChoice(
            request_id=request_id,
            origin=self.prompt.origin,
            prompt_tokens=self.prompt.prompt_tokens,
            generation_tokens=self.assembler.num_output_tokens,
            cached_tokens=self.assembler.num_cached_tokens,
            max_tokens=self.submit.max_tokens,
            finish_reason=finish_reason,
            abort_reason=abort_reason,
            arrived_at=self.prompt.arrived_at,
            queued_at=delta.queued_at if delta is not None else None,
            scheduled_at=delta.scheduled_at if delta is not None and was_scheduled else None,
            first_token_at=self.first_token_at,
            last_token_at=self.last_token_at,
            ended_at=ended_at,
        )


def open_choices(
    prompt: OpenPrompt,
    submits: Iterable[Submit],
    tokenizer: Tokenizer,
    inbox: OutputInbox,
    first: int,
) -> list[OpenChoice]:
    """The choices of one prompt; the first one's index in the answer is `first`."""
    return [
        OpenChoice(
            prompt,
            submit,
            OutputAssembler(tokenizer, submit.prompt_token_ids, submit.params, index),
            inbox,
        )
        for index, submit in enumerate(submits, first)
    ]
