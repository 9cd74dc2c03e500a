"""Choices of completions: their text, with the prompt before it if it is to be echoed."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.outputs import RequestOutput, TokenLogprob
from ..engine.tokenizer import Tokenizer
from .protocol import CompletionRequest, GenerationRequest
from .responses import CompletionChoice, CompletionLogprobs, PromptLogprob
from .service import WholeChoice


@dataclass(frozen=True)
class Prompt:
    """A prompt's text and tokens. `hidden` are the tokens that the text does not show."""

    text: str
    token_ids: list[int]
    hidden: frozenset[int] = frozenset()

    @classmethod
    def of_text(cls, text: str, token_ids: list[int], tokenizer: Tokenizer) -> "Prompt":
        """A text with its tokens, before which the tokenizer may have put a BOS."""
        first = token_ids[0] if token_ids else None
        is_added = first in tokenizer.special_ids and not text.startswith(
            tokenizer.token_text(first)
        )
        return cls(text, token_ids, frozenset({first} if first is not None and is_added else ()))

    @classmethod
    def of_tokens(cls, token_ids: list[int], tokenizer: Tokenizer, skips_special: bool) -> "Prompt":
        """Tokens with the text that they stand for."""
        text = tokenizer.decode(token_ids, skip_special_tokens=skips_special)
        return cls(text, token_ids, tokenizer.special_ids if skips_special else frozenset())


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
        echoed: Sequence[TokenLogprob | None] = ()
        if is_first and body.echo:
            text = self._prompt.text + text
            echoed = part.prompt_logprobs or ()
        drawn = () if is_silent else part.logprobs or ()
        returns_ids = bool(body.return_token_ids)
        return CompletionChoice(
            index=self._index,
            text=text,
            logprobs=None if body.logprobs is None else self._logprobs(echoed, drawn),
            finish_reason="length" if is_silent and part.finish_reason else part.finish_reason,
            stop_reason=None if is_silent else part.stop_reason,
            prompt_logprobs=prompt_logprobs(body, part.prompt_logprobs if is_first else None),
            token_ids=token_ids if returns_ids else None,
            prompt_token_ids=self._prompt.token_ids if returns_ids and is_first else None,
        )

    def _logprobs(
        self, echoed: Sequence[TokenLogprob | None], drawn: Sequence[TokenLogprob]
    ) -> CompletionLogprobs:
        """The parallel lists of the tokens that come next in the choice."""
        lists = CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        special = self._tokenizer.special_ids if self._body.skip_special_tokens else frozenset()
        for entry in echoed:
            self._append(lists, entry, self._prompt.hidden)
        for entry in drawn:
            self._append(lists, entry, special)
        return lists

    def _append(
        self, lists: CompletionLogprobs, entry: TokenLogprob | None, hidden: frozenset[int]
    ) -> None:
        """Add a token; None is the first of an echoed prompt, which nothing comes before."""
        if entry is None:
            token_id = self._prompt.token_ids[0]
            spelled = self._tokenizer.token_bytes(token_id)
            lists.tokens.append(self._name(token_id, self._tokenizer.token_text(token_id)))
            lists.token_logprobs.append(None)
            lists.top_logprobs.append(None)
        else:
            token_id, spelled = entry.token_id, entry.bytes
            own = self._name(token_id, entry.token)
            wanted = self._body.logprobs or 0
            top = entry.top if wanted == -1 else entry.top[:wanted]
            tops = {self._name(one.token_id, one.token): one.logprob for one in top}
            lists.tokens.append(own)
            lists.token_logprobs.append(entry.logprob)
            lists.top_logprobs.append({**tops, own: entry.logprob})
        lists.text_offset.append(self._offsets.next(b"" if token_id in hidden else spelled))

    def _name(self, token_id: int, text: str) -> str:
        return f"token_id:{token_id}" if self._body.return_tokens_as_token_ids else text


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
    wanted = body.prompt_logprobs
    return [None if entry is None else _by_id(entry, wanted) for entry in entries]


def _by_id(entry: TokenLogprob, wanted: int) -> dict[str, PromptLogprob]:
    """The token itself, with its rank if that is known, and the `wanted` likeliest (-1: all)."""
    ranked = {
        str(top.token_id): PromptLogprob(logprob=top.logprob, rank=rank, decoded_token=top.token)
        for rank, top in enumerate(entry.top, start=1)
    }
    known = dict(list(ranked.items())[: None if wanted == -1 else wanted])
    own = str(entry.token_id)
    unranked = PromptLogprob(logprob=entry.logprob, rank=None, decoded_token=entry.token)
    return known if own in known else {own: ranked.get(own, unranked), **known}
