"""Text from tokens as they come: never half a character, never part of a stop string."""

import codecs
from collections.abc import Iterable

from .tokenizer import Tokenizer


class Detokenizer:
    """Turns one sequence's generated tokens into text, a few at a time; O(1) for each token.

    Tokens are joined as bytes, so that a character whose bytes are spread over tokens appears once it
    is whole. Text continues the prompt: a leading space stays.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_ids: Iterable[int]) -> str:
        """The new whole characters that these tokens complete."""
        skipped, spell = self._skipped, self._tokenizer.token_bytes
        return self._decoder.decode(b"".join(spell(i) for i in token_ids if i not in skipped))

    def flush(self) -> str:
        """What remains at the end: U+FFFD for an incomplete character, else nothing."""
        return self._decoder.decode(b"", final=True)


class StopStringMatcher:
    """Finds the earliest of several stop strings in a text that comes in pieces.

    Text that may be the beginning of a stop string is held back. With `include`, the matched string
    is part of what is given out.
    """

    def __init__(self, stop: tuple[str, ...], *, include: bool = False) -> None:
        self._stop = stop
        self._include = include
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take a piece. Returns what may be shown, and the stop string if one is complete.

        Of several, the one that is complete earliest in the text wins, of those the longest.
        """
        self._held += text
        matches = [
            (begin + len(stop), begin, stop)
            for stop in self._stop
            if (begin := self._held.find(stop)) >= 0
        ]
        if matches:
            end, begin, stop = min(matches)
            shown, self._held = self._held[: end if self._include else begin], ""
            return shown, stop
        keep = self._longest_beginning()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, None

    def flush(self) -> str:
        """What was held back, at the end of a text in which no stop string completed."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0
