"""What the engine client tells whoever keeps metrics or traces, in plain values.

Instants are seconds of the monotonic clock, which the front end and the engine share. TTFT and
end-to-end start when the front end received the request; the other intervals begin in the engine.
Names and definitions follow vLLM's metrics documentation.
"""

from dataclasses import dataclass
from typing import Protocol

from .messages import StepResult


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """Where a request came from; the engine hands it on to its listeners unread.

    `key` tells API keys apart without being one; `traceparent` and `tracestate` are the headers of
    W3C Trace Context, empty if the client sent none.
    """

    key: str = ""
    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class FinishedChoice:
    """One choice of a request, from arrival to its last token. None: it never came so far."""

    request_id: str
    origin: RequestOrigin
    prompt_tokens: int
    generation_tokens: int
    cached_tokens: int
    max_tokens: int
    finish_reason: str  # stop, length, abort or error
    abort_reason: str | None  # client_gone, operator, drain_timeout or invalid
    arrived_at: float
    queued_at: float | None
    scheduled_at: float | None
    first_token_at: float | None
    last_token_at: float | None
    ended_at: float

    @property
    def e2e_s(self) -> float:
        """From arrival to the end."""
        return self.ended_at - self.arrived_at

    @property
    def queue_s(self) -> float | None:
        """From arrival in the engine to the first step."""
        return _between(self.queued_at, self.scheduled_at)

    @property
    def prefill_s(self) -> float | None:
        """From the first step to the first token."""
        return _between(self.scheduled_at, self.first_token_at)

    @property
    def decode_s(self) -> float | None:
        """From the first to the last token."""
        return _between(self.first_token_at, self.last_token_at)

    @property
    def inference_s(self) -> float | None:
        """From the first step to the last token."""
        return _between(self.scheduled_at, self.last_token_at)

    @property
    def tpot_s(self) -> float | None:
        """Decode time by generated tokens less one; 0 for a single token."""
        decode_s = self.decode_s
        return None if decode_s is None else decode_s / max(1, self.generation_tokens - 1)


@dataclass(frozen=True, slots=True)
class FinishedPrompt:
    """All choices of one prompt have ended."""

    origin: RequestOrigin
    prompt_tokens: int
    generation_tokens: int  # of all choices
    longest_choice: int  # tokens


class TelemetryListener(Protocol):
    """Receives events in the front end's event loop; must not block."""

    def on_request(self, n: int) -> None:
        """A prompt with `n` choices was accepted."""

    def on_step(self, step: StepResult) -> None:
        """The engine finished a step."""

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """A choice produced its first token."""

    def on_inter_token(self, itl_s: float) -> None:
        """A choice produced tokens after its first; `itl_s` since the ones before."""

    def on_choice_finished(self, choice: FinishedChoice) -> None:
        """A choice ended, by itself or by being cancelled."""

    def on_prompt_finished(self, prompt: FinishedPrompt) -> None:
        """The last choice of a prompt ended."""


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else end - begin
