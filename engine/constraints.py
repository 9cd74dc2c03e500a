"""One sequence's constraint: a time to think that may be bounded, then a grammar."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..models.batch import SampledToken
from ..models.constraint import BITS, Words
from .errors import BadRequestError
from .structured import ThinkingRule

if TYPE_CHECKING:
    from llguidance import LLMatcher


_NOTHING_LEFT = (
    "no token is left that grammar, allowed_token_ids, bad_words and logit_bias all permit"
)


class TokenConstraint:
    """Follows the drawn tokens and says which may come next (`models.constraint.Constraint`).

    While the answer thinks everything goes but the end of the sequence; a spent budget forces the
    end mark. After that the grammar decides, if there is one.
    """

    def __init__(
        self,
        vocab_size: int,
        matcher: "LLMatcher | None" = None,
        thinking: "Thinking | None" = None,
        stop_token_ids: Collection[int] = (),
    ) -> None:
        self.vocab_size = vocab_size
        self._matcher = matcher
        self._thinking = thinking
        # The files of a model may name ends that are beyond its vocabulary.
        self._stop_token_ids = [one for one in stop_token_ids if 0 <= one < vocab_size]
        self.error: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the grammar is satisfied and lets nothing follow."""
        return self._matcher is not None and self._matcher.is_stopped() and self.error is None

    @property
    def is_active(self) -> bool:
        """Whether some token may not come next."""
        thinking = self._thinking
        is_forced = thinking is not None and thinking.forced_token is not None
        return self._matcher is not None or is_forced

    def fill(self, words: Words) -> None:
        """See `Constraint.fill`. Never raises: other sequences are in the same step."""
        try:
            self._fill(words)
        except BaseException as error:  # a panic of native code is no Exception
            self.error = f"{type(error).__name__}: {error}"

    def _fill(self, words: Words) -> None:
        thinking = self._thinking
        if thinking is None or thinking.is_over:
            self._fill_by_grammar(words)
        elif thinking.forced_token is not None:
            _allow_only(words, thinking.forced_token)
        elif thinking.is_open:
            if self._matcher is not None:
                _forbid(words, self._stop_token_ids)
        elif self._matcher is not None:  # at the beginning: the mark that opens, or the answer
            self._fill_by_grammar(words)
            _allow(words, thinking.start_token)

    def accept(self, token_id: int) -> None:
        """Take the token that was drawn. What the grammar has no place for sets `error`."""
        thinking = self._thinking
        if self.error is not None or (thinking is not None and thinking.accept(token_id)):
            return
        try:
            if self._matcher is not None and not self._matcher.consume_token(token_id):
                # Only what a mask allows is drawn, unless it leaves nothing.
                self.error = _NOTHING_LEFT
        except BaseException as error:  # a panic of native code is no Exception
            self.error = f"{type(error).__name__}: {error}"

    def _fill_by_grammar(self, words: Words) -> None:
        if self._matcher is None:
            return
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            self.error = self._matcher.get_error().replace("<non-verbose/>", "").strip(" ;")


class Thinking:
    """Where an answer is with its reasoning. `spell` gives the bytes of a token.

    Raises BadRequestError for a budget whose end cannot be told in tokens.
    """

    def __init__(
        self, rule: ThinkingRule, spell: Callable[[int], bytes], encode: Callable[[str], list[int]]
    ) -> None:
        self._spell = spell
        self._start, self._end = rule.start.encode(), rule.end.encode()
        self._end_tokens: Sequence[int] = encode(rule.end)
        if rule.budget is not None and not self._end_tokens:
            raise BadRequestError(f"the mark {rule.end!r} has no tokens to be forced.", "thinking")
        self._left = rule.budget
        self._num_forced = 0
        self._text = b""
        start_tokens = encode(rule.start)
        self.start_token = start_tokens[0] if len(start_tokens) == 1 else None
        self.is_open = rule.is_open
        self.is_over = False

    @property
    def forced_token(self) -> int | None:
        """The next token of the end mark, once the budget is spent."""
        is_spent = self._left is not None and self._left <= 0
        if not (is_spent and self.is_open) or self.is_over:
            return None
        return self._end_tokens[self._num_forced]

    def accept(self, token_id: int) -> bool:
        """Take a token; false if it is part of the answer and not of the reasoning."""
        if self.is_over:
            return False
        if not self.is_open:
            return self._open_or_skip(token_id)
        if self.forced_token is not None:
            self._num_forced += 1
            self.is_over = self._num_forced == len(self._end_tokens)
            return True
        if self._left is not None:
            self._left -= 1
        self._text += self._spell(token_id)
        if self._end in self._text:
            self.is_over = True
        self._text = self._text[-len(self._end) :]
        return True

    def _open_or_skip(self, token_id: int) -> bool:
        """At the beginning of the answer: reasoning begins with its mark, or there is none."""
        self._text += self._spell(token_id)
        seen = self._text.lstrip()
        if seen.startswith(self._start):
            self.is_open = True
            self._text = seen[len(self._start) :]
            return True
        if not self._start.startswith(seen):
            self.is_over = True
        return False


def _allow_only(words: Words, token_id: int) -> None:
    words.fill(0)
    _allow(words, token_id)


def _allow(words: Words, token_id: int | None) -> None:
    if token_id is not None:
        words.view(np.uint32)[token_id // BITS] |= np.uint32(1 << token_id % BITS)


def _forbid(words: Words, token_ids: Sequence[int]) -> None:
    for token_id in token_ids:
        words.view(np.uint32)[token_id // BITS] &= np.uint32(~(1 << token_id % BITS) & 0xFFFFFFFF)


def follow(
    constraints: Mapping[str, TokenConstraint], sampled: Sequence[SampledToken]
) -> tuple[set[str], dict[str, str]]:
    """Tell the constraints what was drawn. Returns who is complete, and what broke whom."""
    complete: set[str] = set()
    broken: dict[str, str] = {}
    if not constraints:
        return complete, broken
    for token in sampled:
        constraint = constraints.get(token.request_id)
        if constraint is None:
            continue
        constraint.accept(token.token_id)
        if constraint.error is not None:
            broken[token.request_id] = f"the structured output cannot go on: {constraint.error}"
        elif constraint.is_finished:
            complete.add(token.request_id)
    return complete, broken
