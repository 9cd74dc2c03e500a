"""How a request wants its tokens chosen, validated when it is made.

Ranges and the beginnings of messages are vLLM's, since clients match on them; the parameters are
those of OpenAI's API and vLLM's extensions to it.
"""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from .errors import BadRequestError
from .structured import StructuredOutput, ThinkingRule

MAX_CHOICES = 16_384
MAX_LOGPROBS = 20  # unless settings say otherwise
# Each choice of a request has its own copy of these on its way to the engine.
MAX_STOP_STRINGS = 4
MAX_STOP_CHARACTERS = 16_384  # of all strings together
MAX_STOP_TOKEN_IDS = 1024
MAX_BAD_WORDS = 128
MAX_BAD_WORD_CHARACTERS = 4096  # of all words together: tokenizing them takes up to 10 ms
MAX_LOGIT_BIASES = 2048
MAX_ALLOWED_TOKEN_IDS = 8192
GREEDY_EPSILON = 1e-5
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request. Raises BadRequestError for a value out of its range.

    `temperature` below 1e-5 is greedy, and `top_p`, `top_k`, `min_p` then have no effect. `seed`
    fixes the result: the same prompt, parameters and seed give the same tokens whatever else runs;
    choice i of n draws with `seed + i`. `max_tokens` None means the rest of the context. `logprobs`
    k asks for the sampled token's log-probability and the k most likely (-1: of all tokens),
    `prompt_logprobs` for the same of every prompt token but the first. `shown_special_tokens` stay
    in the text where `skip_special_tokens` takes out all others.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    prompt_logprobs: int | None = None
    structured: StructuredOutput | None = None
    thinking: ThinkingRule | None = None
    shown_special_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_lists()

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < GREEDY_EPSILON

    def _check_numbers(self) -> None:
        if self.n < 1:
            raise _bad("n", self.n, f"n must be at least 1, got {self.n}.")
        if self.n > MAX_CHOICES:
            raise _bad("n", self.n, f"n must be at most {MAX_CHOICES}, got {self.n}.")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            if not -2.0 <= value <= 2.0:
                raise _bad(name, value, f"{name} must be in [-2, 2], got {value}.")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0.0):
            value = self.repetition_penalty
            raise _bad(
                "repetition_penalty",
                value,
                f"repetition_penalty must be greater than zero, got {value}.",
            )
        if self.temperature < 0.0:
            raise _bad(
                "temperature",
                self.temperature,
                f"temperature must be non-negative, got {self.temperature}.",
            )
        if not self.temperature <= 2.0:
            raise _bad(
                "temperature",
                self.temperature,
                f"temperature must be in [0, 2], got {self.temperature}.",
            )
        if not 0.0 < self.top_p <= 1.0:
            raise _bad("top_p", self.top_p, f"top_p must be in (0, 1], got {self.top_p}.")
        if self.top_k < -1:
            raise _bad(
                "top_k", self.top_k, f"top_k must be 0 (disable), or at least 1, got {self.top_k}."
            )
        if not 0.0 <= self.min_p <= 1.0:
            raise _bad("min_p", self.min_p, f"min_p must be in [0, 1], got {self.min_p}.")
        if self.n > 1 and self.greedy:
            raise _bad("n", self.n, f"n must be 1 when using greedy sampling, got {self.n}.")
        if self.seed is not None and not INT64_MIN <= self.seed <= INT64_MAX:
            raise _bad("seed", self.seed, f"seed must fit in 64 bits, got {self.seed}.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise _bad(
                "max_tokens",
                self.max_tokens,
                f"max_tokens must be at least 1, got {self.max_tokens}.",
            )
        if self.min_tokens < 0:
            raise _bad(
                "min_tokens",
                self.min_tokens,
                f"min_tokens must be greater than or equal to 0, got {self.min_tokens}.",
            )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _bad(
                "min_tokens",
                self.min_tokens,
                f"min_tokens must be less than or equal to max_tokens={self.max_tokens}, "
                f"got {self.min_tokens}.",
            )
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            if value is not None and value < -1:
                raise _bad(name, value, f"{name} must be non-negative or -1, got {value}.")

    def _check_lists(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise BadRequestError(
                f"stop must have at most {MAX_STOP_STRINGS} strings, got {len(self.stop)}.", "stop"
            )
        _check_characters("stop", self.stop, MAX_STOP_CHARACTERS)
        if any(not text for text in self.stop):
            raise BadRequestError("stop cannot contain an empty string.", "stop")
        if len(self.bad_words) > MAX_BAD_WORDS:
            raise BadRequestError(
                f"bad_words must have at most {MAX_BAD_WORDS} entries, got {len(self.bad_words)}.",
                "bad_words",
            )
        _check_characters("bad_words", self.bad_words, MAX_BAD_WORD_CHARACTERS)
        if any(not text for text in self.bad_words):
            raise BadRequestError("bad_words cannot contain an empty string.", "bad_words")
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise BadRequestError("allowed_token_ids is not None and empty!", "allowed_token_ids")
        for name, members, most in (
            ("stop_token_ids", self.stop_token_ids, MAX_STOP_TOKEN_IDS),
            ("allowed_token_ids", self.allowed_token_ids or (), MAX_ALLOWED_TOKEN_IDS),
            ("logit_bias", self.logit_bias or {}, MAX_LOGIT_BIASES),
        ):
            if len(members) > most:
                raise BadRequestError(
                    f"{name} must have at most {most} entries, got {len(members)}.", name
                )
        for bias in (self.logit_bias or {}).values():
            if not math.isfinite(bias):
                raise BadRequestError(f"logit_bias must be finite, got {bias}.", "logit_bias")

    def with_logprobs_of(self, vocab_size: int, most: int) -> "SamplingParams":
        """The same with numbers in place of -1, which stands for the whole vocabulary.

        Raises BadRequestError for more than `most` log-probabilities a token (-1: any number).
        """
        named = {"logprobs": self.logprobs, "prompt_logprobs": self.prompt_logprobs}
        counts: dict[str, Any] = {}
        for name, count in named.items():
            if count is None:
                continue
            counts[name] = vocab_size if count == -1 else min(count, vocab_size)
            if most != -1 and counts[name] > most:
                which = "prompt" if name == "prompt_logprobs" else "sample"
                raise _bad(
                    name,
                    count,
                    f"Requested {which} logprobs of {counts[name]}, which is greater than max "
                    f"allowed: {most} (--max-logprobs).",
                )
        return msgspec.structs.replace(self, **counts) if counts else self

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise BadRequestError if any token id it names is outside [0, vocab_size)."""
        named: tuple[tuple[str, Iterable[int]], ...] = (
            ("logit_bias", self.logit_bias or {}),
            ("allowed_token_ids", self.allowed_token_ids or ()),
            ("stop_token_ids", self.stop_token_ids),
        )
        for name, ids in named:
            outside = [token for token in ids if not 0 <= token < vocab_size]
            if outside:
                raise BadRequestError(
                    f"token_id(s) {outside[:10]} in {name} contain out-of-vocab token ids. "
                    f"Vocabulary size: {vocab_size}",
                    name,
                )


def _check_characters(name: str, texts: tuple[str, ...], most: int) -> None:
    num_characters = sum(map(len, texts))
    if num_characters > most:
        raise BadRequestError(
            f"{name} must have at most {most} characters together, got {num_characters}.", name
        )


def _bad(param: str, value: object, message: str) -> BadRequestError:
    return BadRequestError(f"{message} (parameter={param}, value={value})", param)
