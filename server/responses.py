"""Bodies that the OpenAI API answers with. `null` members are sent, never left out.

Clients read `finish_reason` and `logprobs` of every chunk, so a member that is unset is an error
for some of them. Streamed chunks without a usage of their own are the one exception: there the
member `usage` is absent, as in OpenAI's streams.
"""

from typing import Any, Literal

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer


class PromptTokensDetails(BaseModel):
    """What is special about prompt tokens."""

    cached_tokens: int  # found in the prefix index, so not computed again


class Usage(BaseModel):
    """Tokens of a whole answer, over all choices; a prompt counts once however many choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def _drop_no_usage(members: dict[str, Any]) -> dict[str, Any]:
    if members["usage"] is None:
        del members["usage"]
    return members


class CompletionLogprobs(BaseModel):
    """Log-probabilities in the format of completions: parallel lists, one entry a token."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


class CompletionChoice(BaseModel):
    """One choice, or what a chunk adds to it. `stop_reason` is vLLM's extension."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None = None


class CompletionResponse(BaseModel):
    """Answer of POST /v1/completions, whole or a chunk of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None

    @model_serializer(mode="wrap")
    def _without_no_usage(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_no_usage(serialize(self))


class TopLogprobEntry(BaseModel):
    """One alternative token at a position."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprobEntry(TopLogprobEntry):
    """A generated token with the alternatives to it, the likeliest first."""

    top_logprobs: list[TopLogprobEntry]


class ChatLogprobs(BaseModel):
    """Log-probabilities in the format of chat completions."""

    content: list[ChatLogprobEntry]


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One choice of a chat completion."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None = None


class ChatResponse(BaseModel):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(BaseModel):
    """What a chunk adds to a message; the first chunk of a choice brings the role."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class ChatChunkChoice(BaseModel):
    """A chunk's part of one choice."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None = None


class ChatChunk(BaseModel):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None

    @model_serializer(mode="wrap")
    def _without_no_usage(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_no_usage(serialize(self))


class ModelCard(BaseModel):
    """One name under which the model is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    parent: str | None = None
    max_model_len: int


class ModelList(BaseModel):
    """Answer of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class TokenizeResponse(BaseModel):
    """Answer of POST /tokenize."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeResponse(BaseModel):
    """Answer of POST /detokenize."""

    prompt: str


class ErrorDetail(BaseModel):
    """What went wrong; `code` is the HTTP status, or OpenAI's word for it."""

    message: str
    type: str
    param: str | None
    code: int | str


class ErrorResponse(BaseModel):
    """OpenAI's shape of every error."""

    error: ErrorDetail
