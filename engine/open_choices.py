"""Every choice under way, and what is told of it to those who keep metrics or traces."""

import time
from collections.abc import Iterator

from .messages import SequenceDelta
from .open_choice import OpenChoice
from .telemetry import TelemetryListener


class OpenChoices:
    """The choices by their engine ids."""

    def __init__(self) -> None:
        self.listeners: list[TelemetryListener] = []
        self._choices: dict[str, OpenChoice] = {}

    def __len__(self) -> int:
        return len(self._choices)

    def __iter__(self) -> Iterator[OpenChoice]:
        """As they are now: who goes through them may close them."""
        return iter(list(self._choices.values()))

    def get(self, request_id: str) -> OpenChoice | None:
        """The choice of this id, None if it is not open."""
        return self._choices.get(request_id)

    def add(self, choices: list[OpenChoice]) -> None:
        """They are under way from now on."""
        self._choices.update((choice.submit.request_id, choice) for choice in choices)

    def note_tokens(self, choice: OpenChoice, delta: SequenceDelta, at: float) -> None:
        """A choice got tokens, at this instant of the engine."""
        if choice.last_token_at is None:
            choice.first_token_at = at
            ttft = time.monotonic() - choice.prompt.arrived_at
            for listener in self.listeners:
                listener.on_first_token(ttft, choice.prompt.prompt_tokens, delta.num_cached_tokens)
        else:
            for listener in self.listeners:
                listener.on_inter_token(at - choice.last_token_at)
        choice.last_token_at = at

    def close(self, choice: OpenChoice, reason: str, abort_reason: str | None) -> None:
        """It has ended, or is ended."""
        request_id = choice.submit.request_id
        del self._choices[request_id]
        choice.is_closed = True
        finished = choice.finished(request_id, reason, abort_reason, time.monotonic())
        whole = choice.prompt.close_one(finished.generation_tokens)
        for listener in self.listeners:
            listener.on_choice_finished(finished)
            if whole is not None:
                listener.on_prompt_finished(whole)
