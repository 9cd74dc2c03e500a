"""Request bodies of the OpenAI API, as far as a text model can honour them, with vLLM's extensions.

Unknown fields are tolerated. A field we know of but cannot honour yet is refused, never ignored, as
long as it asks for something (`refuse_unsupported`). Responses are built in `responses.py`.
"""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
)

from ..engine.errors import BadRequestError
from ..engine.sampling_params import INT64_MAX, INT64_MIN, SamplingParams

MAX_BATCH_PROMPTS = 1024
STRUCTURED_OUTPUT_FIELDS = (
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)
_LARGEST_ID = 2**31 - 1
_BIAS_KEY = re.compile(r"-?[0-9]{1,18}")


def _no_booleans(value: object) -> object:
    """JSON's true is no number, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


def _encodable(value: str) -> str:
    r"""JSON can spell half of a surrogate pair (`"\ud800"`), which no message to the engine can."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("Input is not Unicode: it has half of a surrogate pair") from None
    return value


Number = Annotated[float, BeforeValidator(_no_booleans), Field(strict=True, allow_inf_nan=False)]
Int = Annotated[StrictInt, Field(ge=INT64_MIN, le=INT64_MAX)]
Text = Annotated[str, AfterValidator(_encodable)]
TokenId = Annotated[StrictInt, Field(ge=-_LARGEST_ID, le=_LARGEST_ID)]


class StreamOptions(BaseModel):
    """What to add to a stream."""

    include_usage: StrictBool | None = None
    continuous_usage_stats: StrictBool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was given: `{}` counts as absent."""
        return not self.model_fields_set


class GenerationRequest(BaseModel):
    """What completions and chat completions have in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    n: Int | None = 1
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Int | None = None
    min_p: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repetition_penalty: Number | None = None
    seed: Int | None = None
    stop: Text | list[Text] | None = None
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: StrictBool = False
    ignore_eos: StrictBool = False
    min_tokens: Int | None = None
    skip_special_tokens: StrictBool = True
    logit_bias: dict[str, Number] | None = None
    allowed_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    priority: Int | None = None
    cache_salt: Text | None = None
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

    def sampling_params(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The engine's parameters. Raises BadRequestError for a value out of range."""
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
                None if self.allowed_token_ids is None else tuple(self.allowed_token_ids)
            ),
        }
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(
            **chosen,
            stop=tuple(stop),
            stop_token_ids=tuple(dict.fromkeys(self.stop_token_ids or ())),
            include_stop_str_in_output=self.include_stop_str_in_output,
            ignore_eos=self.ignore_eos,
            skip_special_tokens=self.skip_special_tokens,
            logit_bias=_token_biases(self.logit_bias),
            bad_words=tuple(self.bad_words or ()),
        )

    def refuse_unsupported(self, names: tuple[str, ...]) -> None:
        """Raise BadRequestError if one of these fields asks for something."""
        extra = self.model_extra or {}
        for name in names:
            value = extra.get(name)
            if value is not False and value not in (None, [], {}, "", "none"):
                raise BadRequestError(f"`{name}` is not supported yet.", name)

    def refuse_response_format(self) -> None:
        """Raise BadRequestError if the answer is to be anything but free text."""
        wanted = (self.model_extra or {}).get("response_format")
        kind = wanted.get("type") if isinstance(wanted, dict) else wanted
        if kind not in (None, "text"):
            raise BadRequestError(
                f"`response_format` of type {kind!r} is not supported yet.", "response_format"
            )


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] | None = None
    max_tokens: Int | None = 16
    logprobs: Int | None = None
    add_special_tokens: StrictBool = True

    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one. Raises BadRequestError for none or too many."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt] if prompt else _no_prompt()
        if not prompt:
            return _no_prompt()
        many: list[str | list[int]] = []
        single: list[int] = []
        for item in prompt:
            if isinstance(item, int):
                single.append(item)
            else:
                many.append(item)
        if single:
            return [single]
        if len(many) > MAX_BATCH_PROMPTS:
            raise BadRequestError(
                f"at most {MAX_BATCH_PROMPTS} prompts in a request, got {len(many)}.", "prompt"
            )
        return many if all(many) else _no_prompt()


class DetokenizeRequest(BaseModel):
    """Body of POST /detokenize."""

    model: str | None = None
    tokens: list[TokenId]


def _token_biases(given: dict[str, float] | None) -> dict[int, float] | None:
    """Keys to token ids, values clamped to [-100, 100] as OpenAI does."""
    if given is None:
        return None
    bad = [key for key in given if not _BIAS_KEY.fullmatch(key)]
    if bad:
        raise BadRequestError(
            f"logit_bias contains key(s) that cannot be converted to integer token IDs: {bad}",
            "logit_bias",
        )
    return {int(key): min(100.0, max(-100.0, value)) for key, value in given.items()}


def _no_prompt() -> list[str | list[int]]:
    raise BadRequestError(
        "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"
    )
