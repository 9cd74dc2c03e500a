"""What a request gives back, piece by piece: text and token deltas of each choice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One alternative at a position: its id, log-probability (natural log), text and raw bytes."""

    token_id: int
    logprob: float
    token: str
    bytes: bytes


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token's log-probability, and the likeliest tokens in its place, best first."""

    token_id: int
    logprob: float
    token: str
    bytes: bytes
    top: tuple[TopLogprob, ...]


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A delta of one choice.

    `text`, `token_ids` and `logprobs` are what came since the last output of the choice `index`;
    `num_output_tokens` counts from its beginning. `finish_reason` (stop, length, abort or error) is
    set on the last output of the choice; `stop_reason` is then the stop string or stop token id
    that ended it, None for end-of-sequence. `prompt_logprobs`, if asked for, come with the first
    output, one entry a prompt token; the first token has none.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: str | None
    stop_reason: int | str | None
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished choice, as `LLM.generate` gives it back."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: str
    stop_reason: int | str | None
    num_prompt_tokens: int
    num_cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
