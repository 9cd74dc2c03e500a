"""What the engine client tells whoever keeps the metrics, in plain values.

Clocks: TTFT and end-to-end start when the front end received the request; the other intervals are
those of the engine's monotonic clock. Names follow vLLM's metrics documentation.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StepTelemetry:
    """One engine step."""

    num_prompt_tokens: int  # computed in this step, cached ones excluded
    num_generation_tokens: int
    prefix_query_tokens: int
    prefix_hit_tokens: int
    num_preemptions: int
    num_recomputed_tokens: int
    step_seconds: float


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One choice of a request, from arrival to its last token; intervals in seconds."""

    prompt_tokens: int
    generation_tokens: int
    cached_tokens: int
    max_tokens: int
    finish_reason: str
    e2e_s: float
    queue_s: float | None  # None: it was never scheduled
    prefill_s: float | None
    decode_s: float | None
    inference_s: float | None
    tpot_s: float | None


class TelemetryListener(Protocol):
    """Receives events in the front end's event loop; must not block."""

    def on_request(self, n: int) -> None:
        """An API request with `n` choices was accepted."""

    def on_step(self, step: StepTelemetry) -> None:
        """The engine finished a step."""

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """A choice produced its first token."""

    def on_inter_token(self, itl_s: float) -> None:
        """A choice produced tokens after its first; `itl_s` since the ones before."""

    def on_finished(self, request: FinishedRequest) -> None:
        """A choice ended, by itself or by being cancelled."""


class SilentListener:
    """Listens to nothing: the default."""

    def on_request(self, n: int) -> None:
        """Ignore it."""

    def on_step(self, step: StepTelemetry) -> None:
        """Ignore it."""

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """Ignore it."""

    def on_inter_token(self, itl_s: float) -> None:
        """Ignore it."""

    def on_finished(self, request: FinishedRequest) -> None:
        """Ignore it."""
