"""POST /v1/chat/completions: a conversation, answered."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response

from ..engine.async_engine import RequestStream
from ..engine.outputs import TokenLogprob
from .chat_protocol import ChatCompletionRequest
from .protocol import STRUCTURED_OUTPUT_FIELDS
from .responses import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobEntry,
    ChatLogprobs,
    ChatResponse,
    Delta,
    ErrorResponse,
    TopLogprobEntry,
    Usage,
)
from .service import Heading, ServiceOfApp, UsageCounter, collect
from .sse import EventStream, event, until_disconnect

router = APIRouter()

_NOT_YET = (
    *("tools", "tool_choice", "functions", "function_call", "prompt_logprobs", "audio", "echo"),
    *STRUCTURED_OUTPUT_FIELDS,
)


@router.post(
    "/v1/chat/completions",
    response_model=ChatResponse,
    responses={"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}},
)
async def create_chat_completion(
    body: ChatCompletionRequest, request: Request, service: ServiceOfApp
) -> Response:
    """Answer a conversation, streaming or not."""
    heading = Heading.of(request, body, "chatcmpl", service.served_name(body.model))
    body.check_stream_options()
    body.refuse_unsupported(_NOT_YET)
    body.refuse_response_format()
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    params = body.sampling_params(limit, body.num_logprobs())
    prompt = await service.tokenize_chat(
        body.messages,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
        extra=body.chat_template_kwargs,
    )
    counter = UsageCounter([prompt], params.n)
    stream = service.start(heading, body, [prompt], params)
    if body.streams:
        return EventStream(_events(stream, heading, body, counter, params.n), stream.close)
    choices = await until_disconnect(request.receive, collect(stream, params.n, counter))
    whole = ChatResponse(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        choices=[
            ChatChoice(
                index=index,
                message=AssistantMessage(content=choice.text),
                logprobs=None if choice.logprobs is None else _logprobs(choice.logprobs),
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
            )
            for index, choice in enumerate(choices)
        ],
        usage=counter.usage(),
    )
    return Response(whole.model_dump_json(), media_type="application/json")


async def _events(
    stream: RequestStream,
    heading: Heading,
    body: ChatCompletionRequest,
    counter: UsageCounter,
    num_choices: int,
) -> AsyncIterator[bytes]:
    """The role of every choice, a chunk for every output, and the usage if that is wanted."""

    def chunk(choices: list[ChatChunkChoice], usage: Usage | None) -> bytes:
        return event(
            ChatChunk(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                choices=choices,
                usage=usage,
            )
        )

    def continuous_usage() -> Usage | None:
        return counter.usage() if body.wants_continuous_usage else None

    for index in range(num_choices):
        role = Delta(role="assistant", content="")
        choice = ChatChunkChoice(index=index, delta=role, logprobs=None, finish_reason=None)
        yield chunk([choice], continuous_usage())
    async for output in stream:
        counter.note(output)
        choice = ChatChunkChoice(
            index=output.index,
            delta=Delta(content=output.text),
            logprobs=None if output.logprobs is None else _logprobs(output.logprobs),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
        )
        yield chunk([choice], continuous_usage())
    if body.wants_usage:
        yield chunk([], counter.usage())


def _logprobs(entries: Sequence[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            ChatLogprobEntry(
                token=entry.token,
                logprob=entry.logprob,
                bytes=list(entry.bytes),
                top_logprobs=[
                    TopLogprobEntry(token=top.token, logprob=top.logprob, bytes=list(top.bytes))
                    for top in entry.top
                ],
            )
            for entry in entries
        ]
    )
