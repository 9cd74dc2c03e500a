"""POST /v1/chat/completions: a conversation, answered."""

from fastapi import APIRouter, Request, Response

from .chat_answer import chunks, whole_answer
from .chat_plan import ChatPlan
from .chat_protocol import ChatCompletionRequest
from .responses import ChatResponse, ErrorResponse
from .service import Heading, ServiceOfApp, UsageCounter, collect
from .sse import EventStream, until_disconnect

router = APIRouter()

_UNSUPPORTED = ("audio", "echo")


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
    service.unknown_fields.note("/v1/chat/completions", body)
    body.check_stream_options()
    body.check_unsupported(_UNSUPPORTED)
    plan = await ChatPlan.make(body, service)
    counter = UsageCounter([plan.prompt], plan.params.n)
    stream = await service.start(heading, body, [plan.prompt], plan.params)
    if body.streams:
        return EventStream(chunks(stream, heading, plan, counter), stream.close)
    choices = await until_disconnect(request.receive, collect(stream, plan.params.n, counter))
    whole = whole_answer(heading, plan, choices, counter)
    return Response(whole.model_dump_json(), media_type="application/json")
