"""Request bodies that hold a conversation."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ..engine.errors import BadRequestError
from ..engine.json_depth import refusing_depth
from ..engine.sampling_params import MAX_LOGPROBS
from .fields import Int, ListOf, Text, at_most
from .protocol import GenerationRequest

# Messages, parts of their contents and calls in them: reading each takes microseconds.
MAX_MESSAGE_ITEMS = 16_384


class FunctionCall(BaseModel):
    """The function that an assistant called; `arguments` is JSON text."""

    model_config = ConfigDict(extra="allow")

    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCall(BaseModel):
    """A call in an assistant's message."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    type: str = "function"
    function: FunctionCall


_MOST_ITEMS = Field(max_length=MAX_MESSAGE_ITEMS)
Parts = Annotated[ListOf[dict[str, Any]], _MOST_ITEMS, at_most(MAX_MESSAGE_ITEMS, "parts")]
Calls = Annotated[ListOf[ToolCall], _MOST_ITEMS, at_most(MAX_MESSAGE_ITEMS, "calls")]


class ChatMessage(BaseModel):
    """One message; content is text, or parts of which all are text or refusals.

    `function_call` and the role `function` are the names of 2023 for a call and its result.
    """

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | Parts | None = None
    name: str | None = None
    tool_calls: Calls | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


Messages = Annotated[
    ListOf[ChatMessage],
    Field(min_length=1, max_length=MAX_MESSAGE_ITEMS),
    at_most(MAX_MESSAGE_ITEMS, "messages"),
]


def as_mappings(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as the engine takes them.

    Raises BadRequestError if they are nested too deeply, or have too many parts and calls.
    """
    num_items = sum(
        1
        + len(message.content if isinstance(message.content, list) else ())
        + len(message.tool_calls or ())
        for message in messages
    )
    if num_items > MAX_MESSAGE_ITEMS:
        raise BadRequestError(
            f"at most {MAX_MESSAGE_ITEMS} messages, parts of messages and calls together, got "
            f"{num_items}.",
            "messages",
        )
    with refusing_depth("messages"):
        return [message.model_dump(exclude_none=True) for message in messages]


def num_characters(messages: Sequence[ChatMessage]) -> int:
    """Characters of the messages' texts, which a template has to put in the prompt."""
    return sum(
        len(message.content)
        if isinstance(message.content, str)
        else sum(len(str(part.get("text") or "")) for part in message.content or ())
        for message in messages
    )


class ChatCompletionRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: Messages
    max_tokens: Int | None = None
    max_completion_tokens: Int | None = None
    logprobs: StrictBool | None = False
    top_logprobs: Int | None = None
    tools: ListOf[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = True
    functions: ListOf[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: str | None = None
    include_reasoning: StrictBool = True
    thinking_token_budget: Int | None = None
    add_generation_prompt: StrictBool = True
    continue_final_message: StrictBool = False
    add_special_tokens: StrictBool = False
    chat_template: Text | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def token_limit(self) -> int | None:
        """The most tokens of the answer; the newer name goes before the older one."""
        newer = self.max_completion_tokens
        return self.max_tokens if newer is None else newer

    def num_logprobs(self, most: int = MAX_LOGPROBS) -> int | None:
        """How many alternatives are wanted, at most `most` (-1: any number).

        None for no log-probabilities at all.
        """
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequestError(
                "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"
            )
        wanted = self.top_logprobs or 0
        if wanted < 0 or (most >= 0 and wanted > most):
            bounds = f"in [0, {most}]" if most >= 0 else "at least 0"
            raise BadRequestError(f"top_logprobs must be {bounds}, got {wanted}.", "top_logprobs")
        return wanted if self.logprobs else None

    def thinking_budget(self) -> int | None:
        """Tokens that reasoning may take, None for any number (-1 says the same)."""
        budget = self.thinking_token_budget
        if budget is not None and budget < -1:
            raise BadRequestError(
                f"thinking_token_budget must be -1 or at least 0, got {budget}.",
                "thinking_token_budget",
            )
        return None if budget == -1 else budget

    def continued_text(self) -> str | None:
        """Text of the message that the answer is to continue, None if it is to be a new one."""
        if not self.continue_final_message:
            return None
        content = self.messages[-1].content or ""
        if isinstance(content, str):
            return content
        return "".join(str(part.get("text") or "") for part in content)

    def offered_tools(self) -> tuple[list[dict[str, Any]] | None, str | dict[str, Any] | None]:
        """`tools` and `tool_choice`, also where a client uses their names of 2023."""
        if self.tools is not None or self.functions is None:
            return self.tools, self.tool_choice
        tools = [{"type": "function", "function": function} for function in self.functions]
        call = self.function_call
        return tools, {"type": "function", "function": call} if isinstance(call, dict) else call


class TokenizeRequest(BaseModel):
    """Body of POST /tokenize: a prompt or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: ListOf[dict[str, Any]] | None = None
    add_special_tokens: StrictBool | None = None
    add_generation_prompt: StrictBool = True
    continue_final_message: StrictBool = False
    return_token_strs: StrictBool = False
    chat_template_kwargs: dict[str, Any] | None = None
