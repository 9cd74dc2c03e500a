"""What is asked: endless streams of conversations, the same for the same seed everywhere.

Lengths of prompts are in words of `words.WORDS`, which are close to one token each; how many tokens
a prompt really had is what the server's `usage` says.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from .errors import BenchError
from .words import WORDS

CHARACTERS_PER_TOKEN = 4  # of English text; only for files of which no token counts are known


@dataclass(frozen=True)
class Turn:
    """One thing the user says, and the most tokens the answer to it may have."""

    text: str
    output_len: int


@dataclass(frozen=True)
class Conversation:
    """Turns that are sent one after another, each with all turns and answers before it."""

    turns: tuple[Turn, ...]


class Workload(Protocol):
    """A source of conversations."""

    def conversations(self, seed: int | str) -> Iterator[Conversation]:
        """An endless stream that is a function of the workload and the seed alone."""
        ...


@dataclass(frozen=True)
class RandomPrompts:
    """Independent prompts of random words.

    Lengths are uniform between (1 - range_ratio) and (1 + range_ratio) times the given ones.
    """

    input_len: int = 256
    output_len: int = 128
    range_ratio: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths(self.input_len, self.output_len, self.range_ratio)

    def conversations(self, seed: int | str) -> Iterator[Conversation]:
        """One turn each."""
        random = _random(seed)
        while True:
            text = _words(random, _length(random, self.input_len, self.range_ratio))
            yield Conversation((Turn(text, _length(random, self.output_len, self.range_ratio)),))


@dataclass(frozen=True)
class SharedPrefix:
    """Prompts that begin with one of `num_prefixes` texts of `prefix_len` words.

    `input_len` random words follow, so a prompt has prefix_len + input_len words.
    """

    prefix_len: int = 256
    num_prefixes: int = 1
    input_len: int = 64
    output_len: int = 128
    range_ratio: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths(self.input_len, self.output_len, self.range_ratio)
        if self.prefix_len < 1 or self.num_prefixes < 1:
            raise BenchError("a shared prefix needs a length and a number of at least 1")

    def conversations(self, seed: int | str) -> Iterator[Conversation]:
        """One turn each; which prefix is random."""
        random = _random(seed)
        prefixes = [_words(random, self.prefix_len) for _ in range(self.num_prefixes)]
        while True:
            prefix = prefixes[_below(random, self.num_prefixes)]
            rest = _words(random, _length(random, self.input_len, self.range_ratio))
            output_len = _length(random, self.output_len, self.range_ratio)
            yield Conversation((Turn(f"{prefix} {rest}", output_len),))


@dataclass(frozen=True)
class MultiTurn:
    """Conversations of `turns` turns; each sends all that was said before, answers included."""

    turns: int = 4
    input_len: int = 64
    output_len: int = 64
    range_ratio: float = 0.0

    def __post_init__(self) -> None:
        _check_lengths(self.input_len, self.output_len, self.range_ratio)
        if self.turns < 1:
            raise BenchError("a conversation needs at least 1 turn")

    def conversations(self, seed: int | str) -> Iterator[Conversation]:
        """`input_len` words a turn."""
        random = _random(seed)
        while True:
            turns = []
            for _ in range(self.turns):
                text = _words(random, _length(random, self.input_len, self.range_ratio))
                turns.append(Turn(text, _length(random, self.output_len, self.range_ratio)))
            yield Conversation(tuple(turns))


@dataclass(frozen=True)
class ShareGPT:
    """First question of each conversation in a ShareGPT-style JSON file, shuffled.

    The file holds a list of `{"conversations": [{"from": "human", "value": …}, {"from": "gpt",
    "value": …}, …]}`. An answer may be as long as the one in the file, unless `output_len` says
    otherwise. Tokens are estimated as four characters; questions beyond `max_input_len` and pairs
    beyond `max_total_len` are left out. When all were asked they are shuffled and asked again.
    """

    pairs: tuple[tuple[str, str], ...]
    output_len: int | None = None

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        output_len: int | None = None,
        max_input_len: int = 1024,
        max_total_len: int = 2048,
    ) -> "ShareGPT":
        """Read the file. Raises BenchError if it cannot be read or nothing in it is usable."""
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BenchError(f"--dataset-path {path}: {error}") from error
        pairs = []
        for entry in entries if isinstance(entries, list) else []:
            pair = _first_exchange(entry)
            if pair is None:
                continue
            question, answer = (_estimate_tokens(text) for text in pair)
            if question <= max_input_len and question + (output_len or answer) <= max_total_len:
                pairs.append(pair)
        if not pairs:
            raise BenchError(
                f"--dataset-path {path}: no usable conversation; expected a JSON list of objects "
                'like {"conversations": [{"from": "human", "value": "…"}, …]}'
            )
        return cls(tuple(pairs), output_len)

    def conversations(self, seed: int | str) -> Iterator[Conversation]:
        """One turn each."""
        random = _random(seed)
        while True:
            order = list(self.pairs)
            for end in range(len(order) - 1, 0, -1):
                other = _below(random, end + 1)
                order[end], order[other] = order[other], order[end]
            for question, answer in order:
                output_len = self.output_len or max(1, _estimate_tokens(answer))
                yield Conversation((Turn(question, output_len),))


def _first_exchange(entry: object) -> tuple[str, str] | None:
    said = entry.get("conversations") if isinstance(entry, Mapping) else None
    if not isinstance(said, list) or len(said) < 2:
        return None
    first, second = said[:2]
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return None
    question, answer = first.get("value"), second.get("value")
    if not isinstance(question, str) or not isinstance(answer, str) or not question.strip():
        return None
    return question, answer


def _estimate_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _check_lengths(input_len: int, output_len: int, range_ratio: float) -> None:
    if input_len < 1 or output_len < 1:
        raise BenchError(
            f"input and output lengths must be at least 1, not {input_len} and {output_len}"
        )
    if not 0 <= range_ratio < 1:
        raise BenchError(f"--range-ratio must be at least 0 and below 1, not {range_ratio}")


# Of Random only `random()` is used: it alone is promised to stay the same between versions.
def _random(seed: int | str) -> Random:
    return Random(f"octavo bench {seed}")


def _below(random: Random, limit: int) -> int:
    return int(random.random() * limit)


def _words(random: Random, count: int) -> str:
    return " ".join(WORDS[_below(random, len(WORDS))] for _ in range(count))


def _length(random: Random, around: int, range_ratio: float) -> int:
    low = max(1, round(around * (1 - range_ratio)))
    high = max(low, round(around * (1 + range_ratio)))
    return low + _below(random, high - low + 1)
