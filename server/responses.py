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


def drop_absent(members: dict[str, Any], *names: str) -> dict[str, Any]:
    """The members without those of `names` that are None."""
    return {name: value for name, value in members.items() if not (name in names and value is None)}


class CompletionTokensDetails(BaseModel):
    """What is special about generated tokens."""

    reasoning_tokens: int  # the marks around the reasoning among them


class Usage(BaseModel):
    """Tokens of a whole answer, over all choices; a prompt counts once however many choices.

    `completion_tokens_details` are there only where reasoning is set apart.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "completion_tokens_details")


class CompletionLogprobs(BaseModel):
    """Log-probabilities in the format of completions: parallel lists, one entry a token."""

    text_offset: list[int]
    token_logprobs: list[float | None]  # None: the first token of an echoed prompt
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(BaseModel):
    """vLLM's extension: one of the tokens at a place of a prompt; rank 1 is the likeliest."""

    logprob: float
    rank: int | None
    decoded_token: str


class CompletionChoice(BaseModel):
    """One choice, or what a chunk adds to it. Members from `stop_reason` on are vLLM's extensions.

    Those after it are there only if they were asked for.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None

    @model_serializer(mode="wrap")
    def _without_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "prompt_logprobs", "token_ids", "prompt_token_ids")


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
        return drop_absent(serialize(self), "usage")


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


class CalledFunction(BaseModel):
    """The function that the model calls; `arguments` is JSON text."""

    name: str
    arguments: str


class MessageToolCall(BaseModel):
    """A call in a message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(BaseModel):
    """What the model said; `tool_calls` and the reasoning are there only if there are any."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "tool_calls", "reasoning", "reasoning_content")


class ChatChoice(BaseModel):
    """One choice of a chat completion."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None

    @model_serializer(mode="wrap")
    def _without_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "token_ids")


class ChatResponse(BaseModel):
    """Answer of POST /v1/chat/completions. The last two members are there if asked for."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None
    prompt_token_ids: list[int] | None = None

    @model_serializer(mode="wrap")
    def _without_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "prompt_logprobs", "prompt_token_ids")


class FunctionDelta(BaseModel):
    """What a chunk adds to a call: the name with its first piece, then arguments."""

    name: str | None = None
    arguments: str

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "name")


class ToolCallChunk(BaseModel):
    """A piece of call `index`; id and type come with the first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "id", "type")


class Delta(BaseModel):
    """What a chunk adds to a message; the first chunk of a choice brings the role."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallChunk] | None = None

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
    token_ids: list[int] | None = None

    @model_serializer(mode="wrap")
    def _without_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "token_ids")


class ChatChunk(BaseModel):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None

    @model_serializer(mode="wrap")
    def _without_no_usage(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return drop_absent(serialize(self), "usage", "prompt_token_ids")


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


class VersionResponse(BaseModel):
    """Answer of GET /version."""

    version: str


class LoadResponse(BaseModel):
    """Answer of GET /load: choices that wait or run."""

    server_load: int


class ErrorDetail(BaseModel):
    """What went wrong; `code` is the HTTP status, or OpenAI's word for it."""

    message: str
    type: str
    param: str | None
    code: int | str


class ErrorResponse(BaseModel):
    """OpenAI's shape of every error."""

    error: ErrorDetail


ANSWERS_OF_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse},
    "5XX": {"model": ErrorResponse},
}
_EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "A chunk as JSON, or `[DONE]`."}},
    "required": ["data"],
}
ANSWERS_OF_GENERATION: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The whole answer, or with `stream` its chunks as server-sent events.",
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    },
    **ANSWERS_OF_ERRORS,
}
