"""Request bodies that hold a conversation."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from ..engine.errors import BadRequestError
from ..engine.sampling_params import MAX_LOGPROBS
from .protocol import GenerationRequest, Int


class ChatMessage(BaseModel):
    """One message; content is text, or parts of which all are text."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatCompletionRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Int | None = None
    max_completion_tokens: Int | None = None
    logprobs: StrictBool | None = False
    top_logprobs: Int | None = None
    add_generation_prompt: StrictBool = True
    continue_final_message: StrictBool = False
    chat_template_kwargs: dict[str, Any] | None = None

    def num_logprobs(self) -> int | None:
        """How many alternatives are wanted, None for no log-probabilities at all."""
        if self.top_logprobs is not None and not self.logprobs:
            raise BadRequestError(
                "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"
            )
        wanted = self.top_logprobs or 0
        if not 0 <= wanted <= MAX_LOGPROBS:
            raise BadRequestError(
                f"top_logprobs must be in [0, {MAX_LOGPROBS}], got {wanted}.", "top_logprobs"
            )
        return wanted if self.logprobs else None


class TokenizeRequest(BaseModel):
    """Body of POST /tokenize: a prompt or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: StrictBool | None = None
    add_generation_prompt: StrictBool = True
    continue_final_message: StrictBool = False
    return_token_strs: StrictBool = False
    chat_template_kwargs: dict[str, Any] | None = None
