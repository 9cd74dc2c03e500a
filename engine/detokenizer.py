"""Text from tokens as they come: never half a character, never part of a stop string."""

import codecs
from collections.abc import Iterable

from .tokenizer import Tokenizer


class Detokenizer:
    """Turns one sequence's generated tokens into text, a few at a time; O(1) for each token.

    Tokens are joined as bytes, so a character whose bytes are spread over tokens appears once it is
    whole. The text continues the prompt: a leading space stays. Special tokens are left out, but
    for those whose text is in `shown`.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True, shown: Iterable[str] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._skipped -= {tokenizer.token_id(text) for text in shown}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_ids: Iterable[int]) -> str:
        """The new whole characters that these tokens complete."""
        skipped, spell = self._skipped, self._tokenizer.token_bytes
        return self._decoder.decode(b"".join(spell(i) for i in token_ids if i not in skipped))

    def flush(self) -> str:
        """What remains at the end: U+FFFD for an incomplete character, else nothing."""
        return self._decoder.decode(b"", final=True)


class StopStringMatcher:
    """Finds the first of several stop strings in a text that comes in pieces.

    Text that may be the beginning of a stop string is held back, and no other. The stop string that
    is complete earliest in the text wins, of those that end together the longest, so how the text
    is cut into pieces changes nothing. With `include`, the stop string is given out as well.

    Each stop string is matched by Knuth, Morris and Pratt's method: the cost of a character does
    not grow with the length of a stop string or of what is held back.
    """

    def __init__(self, stop: tuple[str, ...], *, include: bool = False) -> None:
        assert stop and all(stop), "validated with the sampling parameters"
        self._searches = [_Search(pattern) for pattern in stop]
        self._first_characters = frozenset(pattern[0] for pattern in stop)
        self._include = include
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take a piece. Returns what may be shown, and the stop string if one is complete.

        After that the matcher has done its work and is not to be used again.
        """
        if not self._held and self._first_characters.isdisjoint(text):
            return text, None
        num_held = len(self._held)
        self._held += text
        for end, character in enumerate(text, start=num_held + 1):
            complete = [s.pattern for s in self._searches if s.advance(character)]
            if complete:
                stop = max(complete, key=len)
                return self._held[: end if self._include else end - len(stop)], stop
        keep = max(search.length for search in self._searches)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, None

    def flush(self) -> str:
        """What was held back, at the end of a text in which no stop string completed."""
        held, self._held = self._held, ""
        return held


class _Search:
    """One pattern, and how much of its beginning the text ends with."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.length = 0
        # For each beginning of the pattern, by its length: the longest shorter beginning that it
        # ends with. Computed only as far as the text has ever matched.
        self._fallbacks = [0, 0]

    def advance(self, character: str) -> bool:
        """Take the text's next character; true if the pattern is complete with it."""
        length = self._extend(self.length, character)
        self.length = length
        if length == len(self._fallbacks) and length < len(self.pattern):
            shorter = self._fallbacks[length - 1]
            self._fallbacks.append(self._extend(shorter, self.pattern[length - 1]))
        return length == len(self.pattern)

    def _extend(self, length: int, character: str) -> int:
        """The longest beginning that ends here, if one of `length` ended a character earlier."""
        while length and self.pattern[length] != character:
            length = self._fallbacks[length]
        return length + 1 if self.pattern[length] == character else 0
