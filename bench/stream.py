"""Server-sent events of a streamed completion, from bytes to the few fields that are measured."""

from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import BenchError

DONE = b"[DONE]"


class EventLines:
    """Cuts a byte stream into the payloads of its `data:` lines.

    Pieces may end anywhere, within a line or a character. Lines end with LF or CRLF. An event that
    spreads over several `data:` lines, which no OpenAI-compatible server sends, would come out as
    several payloads.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads that `piece` completes."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server tells them; `cached_tokens` is None where it does not."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of the stream: new text (also of reasoning), an end, token counts, or several."""

    text: str
    has_choice: bool
    finish_reason: str | None
    usage: Usage | None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Event)


def parse_chunk(payload: bytes) -> Chunk:
    """Parse one event. Raises BenchError if it is no completion chunk, or tells of an error."""
    try:
        event = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BenchError(f"not a completion chunk ({error}): {payload[:200]!r}") from error
    if event.error is not None:
        raise BenchError(f"error in the stream: {error_text(event.error)}")
    text, finish_reason = "", None
    for choice in event.choices or ():
        text += choice.text or ""
        if choice.delta is not None:
            delta = choice.delta
            text += (delta.reasoning_content or delta.reasoning or "") + (delta.content or "")
        finish_reason = choice.finish_reason or finish_reason
    return Chunk(text, bool(event.choices), finish_reason, _usage(event.usage))


def error_text(error: object) -> str:
    """The message of an OpenAI error object, or whatever is there instead."""
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return str(error)


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    cached = None if details is None else details.cached_tokens
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached)
