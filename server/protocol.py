"""Request bodies of the OpenAI API, as far as a text model can honour them, with vLLM's extensions.

Unknown fields are tolerated. A field we know of but cannot honour is refused, never ignored, as
long as it asks for something (`check_unsupported`). Responses are built in `responses.py`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ..engine.errors import BadRequestError
from ..engine.generation_defaults import NO_DEFAULTS, GenerationDefaults
from ..engine.sampling_params import (
    MAX_ALLOWED_TOKEN_IDS,
    MAX_BAD_WORDS,
    MAX_LOGIT_BIASES,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
    SamplingParams,
)
from ..engine.structured import StructuredOutput
from .fields import UNICODE, Int, ListOf, Number, Text, TokenId, at_most
from .structured_bodies import StructuredFields

MAX_BATCH_PROMPTS = 1024
MAX_CACHE_SALT_CHARACTERS = 1024
# What we cannot do, and the values by which a request does not ask for it.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "use_beam_search": (),
    "length_penalty": (1,),
    "early_stopping": (),
    "logits_processors": (),
    "repetition_detection": (),
}
_NOTHING: tuple[object, ...] = (None, False, [], {}, "", "none")
_BIAS_KEY = re.compile(r"-?[0-9]{1,18}")


class StreamOptions(BaseModel):
    """What to add to a stream."""

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was given: `{}` counts as absent."""
        return not self.model_fields_set


class GenerationRequest(StructuredFields):
    """What completions and chat completions have in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: Int | None = 1
    best_of: Int | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Int | None = None
    min_p: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repetition_penalty: Number | None = None
    seed: Int | None = None
    stop: (
        Annotated[str, Field(max_length=MAX_STOP_CHARACTERS), UNICODE]
        | Annotated[
            ListOf[Text],
            Field(max_length=MAX_STOP_STRINGS),
            at_most(MAX_STOP_STRINGS, "strings"),
        ]
        | None
    ) = None
    stop_token_ids: (
        Annotated[
            ListOf[TokenId],
            Field(max_length=MAX_STOP_TOKEN_IDS),
            at_most(MAX_STOP_TOKEN_IDS, "token ids"),
        ]
        | None
    ) = None
    include_stop_str_in_output: StrictBool = False
    ignore_eos: StrictBool = False
    min_tokens: Int | None = None
    skip_special_tokens: StrictBool = True
    logit_bias: (
        Annotated[
            dict[str, Number],
            Field(max_length=MAX_LOGIT_BIASES),
            at_most(MAX_LOGIT_BIASES, "entries"),
        ]
        | None
    ) = None
    allowed_token_ids: (
        Annotated[
            ListOf[TokenId],
            Field(max_length=MAX_ALLOWED_TOKEN_IDS),
            at_most(MAX_ALLOWED_TOKEN_IDS, "token ids"),
        ]
        | None
    ) = None
    bad_words: (
        Annotated[ListOf[str], Field(max_length=MAX_BAD_WORDS), at_most(MAX_BAD_WORDS, "entries")]
        | None
    ) = None
    prompt_logprobs: Int | None = None
    truncate_prompt_tokens: Int | None = None
    truncation_side: Literal["left", "right"] = "left"
    return_token_ids: StrictBool | None = None
    return_tokens_as_token_ids: StrictBool | None = None
    priority: Int | None = None
    cache_salt: Annotated[str, Field(max_length=MAX_CACHE_SALT_CHARACTERS), UNICODE] | None = None
    user: str | None = None
    request_id: Annotated[Text, Field(pattern=r"^[\x21-\x7e]{1,128}$")] | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return bool(self.stream)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def wants_continuous_usage(self) -> bool:
        """Whether every chunk of a stream carries usage."""
        options = self.stream_options
        return self.wants_usage and options is not None and bool(options.continuous_usage_stats)

    def check_stream_options(self) -> None:
        """Raise BadRequestError for stream options without a stream."""
        options = self.stream_options
        if options is not None and not options.is_empty and not self.streams:
            raise BadRequestError(
                "Stream options can only be defined when `stream=True`.", "stream_options"
            )

    def check_unsupported(self, names: tuple[str, ...] = ()) -> None:
        """Raise BadRequestError for what cannot be honoured: `names`, beam search, `best_of`."""
        for name, harmless in {**dict.fromkeys(names, ()), **_UNSUPPORTED}.items():
            value = (self.model_extra or {}).get(name)
            if value not in (*_NOTHING, *harmless):
                raise BadRequestError(f"`{name}` is not supported.", name)
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise BadRequestError(
                f"`best_of` is not supported unless it equals `n`={self.n or 1}, "
                f"got {self.best_of}.",
                "best_of",
            )
        if self.streams and self.prompt_logprobs is not None:
            raise BadRequestError(
                "`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs"
            )

    def sampling_params(
        self,
        max_tokens: int | None,
        logprobs: int | None,
        *,
        defaults: GenerationDefaults = NO_DEFAULTS,
        structured: StructuredOutput | None = None,
        shown_special_tokens: tuple[str, ...] = (),
    ) -> SamplingParams:
        """The engine's parameters; `defaults` stand in for what is unset.

        `structured` stands in for a form that the body asks for itself. Raises BadRequestError for
        a value out of range.
        """
        if max_tokens is not None and defaults.max_new_tokens is not None:
            max_tokens = min(max_tokens, defaults.max_new_tokens)
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        given = {
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "min_tokens": self.min_tokens,
            "max_tokens": max_tokens,
            "logprobs": logprobs,
            "allowed_token_ids": (
                None
                if self.allowed_token_ids is None
                else tuple(dict.fromkeys(self.allowed_token_ids))
            ),
        }
        chosen: dict[str, Any] = dict(defaults.sampling)
        chosen.update((name, value) for name, value in given.items() if value is not None)
        if structured is None:
            structured = self.structured_output()
        with self.in_its_own_names():
            return SamplingParams(
                **chosen,
                stop=tuple(stop),
                stop_token_ids=tuple(dict.fromkeys(self.stop_token_ids or ())),
                include_stop_str_in_output=self.include_stop_str_in_output,
                ignore_eos=self.ignore_eos,
                skip_special_tokens=self.skip_special_tokens,
                logit_bias=_token_biases(self.logit_bias),
                bad_words=tuple(self.bad_words or ()),
                prompt_logprobs=self.prompt_logprobs,
                structured=structured,
                shown_special_tokens=shown_special_tokens,
            )

    @contextmanager
    def in_its_own_names(self) -> Iterator[None]:
        """Re-raise a BadRequestError of the engine with the names that the body has for things."""
        try:
            yield
        except BadRequestError as error:
            message, param = error.message, error.param
            newer = "max_completion_tokens"
            if newer in type(self).model_fields and newer in self.model_fields_set:
                message = re.sub(r"\bmax_tokens\b", newer, message)
                param = newer if param == "max_tokens" else param
            if param == "response_format":
                param = self.form_field or "tools"  # a form that nothing names is a forced call's
            raise BadRequestError(message, param) from None


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: str | ListOf[str] | ListOf[TokenId] | ListOf[ListOf[TokenId]] | None = None
    max_tokens: Int | None = 16
    logprobs: Int | None = None
    add_special_tokens: StrictBool = True
    echo: StrictBool | None = False

    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one. Raises BadRequestError for none or too many."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt] if prompt else _no_prompt()
        if not prompt:
            return _no_prompt()
        if isinstance(prompt[0], int):
            return [prompt]  # all are of one type
        many = cast("list[str | list[int]]", prompt)
        if len(many) > MAX_BATCH_PROMPTS:
            raise BadRequestError(
                f"at most {MAX_BATCH_PROMPTS} prompts in a request, got {len(many)}.", "prompt"
            )
        return many if all(many) else _no_prompt()


class DetokenizeRequest(BaseModel):
    """Body of POST /detokenize."""

    model: str | None = None
    tokens: ListOf[TokenId]


def _token_biases(given: dict[str, float] | None) -> dict[int, float] | None:
    """Keys to token ids, values clamped to [-100, 100] as OpenAI does."""
    if given is None:
        return None
    bad = [key for key in given if not _BIAS_KEY.fullmatch(key)]
    if bad:
        raise BadRequestError(
            f"logit_bias contains key(s) that cannot be converted to integer token IDs: {bad[:10]}",
            "logit_bias",
        )
    return {int(key): min(100.0, max(-100.0, value)) for key, value in given.items()}


def _no_prompt() -> list[str | list[int]]:
    raise BadRequestError(
        "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"
    )
