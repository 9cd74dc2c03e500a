"""Choices of completions: their text, with the prompt before it if it is to be echoed."""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..engine.outputs import RequestOutput, TokenLogprob
from ..engine.tokenizer import Tokenizer
from .protocol import CompletionRequest, GenerationRequest
from .responses import CompletionChoice, CompletionLogprobs, PromptLogprob
from .service import WholeChoice


@dataclass(frozen=True)
class Prompt:
    """A prompt as the client gave it, and its tokens."""

    text: str
    token_ids: list[int]


class ChoiceWriter:
    """Writes one choice, in as many parts as come."""

    def __init__(
        self, body: CompletionRequest, prompt: Prompt, index: int, tokenizer: Tokenizer
    ) -> None:
        self._body = body
        self._prompt = prompt
        self._index = index
        self._tokenizer = tokenizer
        self._offsets = _Offsets()
        self._is_first = True

    def write(self, part: RequestOutput | WholeChoice) -> CompletionChoice:
        """The next part of the choice, or all of it."""
        body, is_first = self._body, self._is_first
        self._is_first = False
        is_silent = body.max_tokens == 0  # the engine draws a token, since it cannot draw none
        text, token_ids = ("", []) if is_silent else (part.text, list(part.token_ids))
        entries: list[TokenLogprob | None] = []
        if is_first and body.echo:
            text = self._prompt.text + text
            entries.extend(part.prompt_logprobs or ())
        if not is_silent:
            entries.extend(part.logprobs or ())
        returns_ids = bool(body.return_token_ids)
        return CompletionChoice(
            index=self._index,
            text=text,
            logprobs=None if body.logprobs is None else self._logprobs(entries),
            finish_reason="length" if is_silent and part.finish_reason else part.finish_reason,
            stop_reason=None if is_silent else part.stop_reason,
            prompt_logprobs=prompt_logprobs(body, part.prompt_logprobs if is_first else None),
            token_ids=token_ids if returns_ids else None,
            prompt_token_ids=self._prompt.token_ids if returns_ids and is_first else None,
        )

    def _logprobs(self, entries: Iterable[TokenLogprob | None]) -> CompletionLogprobs:
        """The parallel lists of the tokens that come next in the choice."""
        lists = CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        as_ids = bool(self._body.return_tokens_as_token_ids)

        def name(token_id: int, text: str) -> str:
            return f"token_id:{token_id}" if as_ids else text

        for entry in entries:
            if entry is None:  # the first token of an echoed prompt
                token_id = self._prompt.token_ids[0]
                spelled = self._tokenizer.token_bytes(token_id)
                lists.tokens.append(name(token_id, self._tokenizer.token_text(token_id)))
                lists.token_logprobs.append(None)
                lists.top_logprobs.append(None)
            else:
                spelled = entry.bytes
                own = name(entry.token_id, entry.token)
                tops = {name(top.token_id, top.token): top.logprob for top in entry.top}
                lists.tokens.append(own)
                lists.token_logprobs.append(entry.logprob)
                lists.top_logprobs.append({**tops, own: entry.logprob})
            lists.text_offset.append(self._offsets.next(spelled))
        return lists


class _Offsets:
    """Where the tokens of one choice begin in its text.

    A character may take several tokens: those after its first begin where it begins.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_characters = 0

    def next(self, token: bytes) -> int:
        """The offset of the next token, whose bytes are given."""
        begin = self._num_characters
        self._num_characters += len(self._decoder.decode(token))
        return begin


def prompt_logprobs(
    body: GenerationRequest, entries: Sequence[TokenLogprob | None] | None
) -> list[dict[str, PromptLogprob] | None] | None:
    """vLLM's shape: for each prompt token, log-probabilities by token id; None if not asked for."""
    if body.prompt_logprobs is None or entries is None:
        return None
    return [None if entry is None else _by_id(entry) for entry in entries]


def _by_id(entry: TokenLogprob) -> dict[str, PromptLogprob]:
    known = {
        str(top.token_id): PromptLogprob(logprob=top.logprob, rank=rank, decoded_token=top.token)
        for rank, top in enumerate(entry.top, start=1)
    }
    own = PromptLogprob(logprob=entry.logprob, rank=None, decoded_token=entry.token)
    return known if str(entry.token_id) in known else {str(entry.token_id): own, **known}
