"""POST /v1/chat/completions: a conversation, answered."""

from fastapi import APIRouter, Request, Response

from .chat_answer import chunks, whole_answer
from .chat_plan import ChatDraft
from .chat_protocol import ChatCompletionRequest
from .reasoning_usage import ChatUsageCounter
from .responses import ANSWERS_OF_GENERATION, ChatResponse
from .service import Heading, ServiceOfApp, collect
from .sse import EventStream, until_disconnect

router = APIRouter()

_UNSUPPORTED = ("audio", "echo")


@router.post(
    "/v1/chat/completions",
    response_model=ChatResponse,
    responses=ANSWERS_OF_GENERATION,
)
async def create_chat_completion(
    body: ChatCompletionRequest, request: Request, service: ServiceOfApp
) -> Response:
    """Answer a conversation, streaming or not."""
    heading = Heading.of(request, body, "chatcmpl", service.served_name(body.model))
    service.unknown_fields.note("/v1/chat/completions", body)
    body.check_stream_options()
    body.check_unsupported(_UNSUPPORTED)
    draft = ChatDraft.read(body, service)
    plan = await service.prepared(request, heading, draft.params.n, lambda: draft.plan(service))
    token_id = service.engine.tokenizer.token_id
    counter = ChatUsageCounter(plan.prompt, plan.params.n, plan.thinking, token_id)
    stream = service.start(heading, body, [plan.prompt], [plan.params])
    if body.streams:
        return EventStream(chunks(stream, heading, plan, counter), stream.close)
    choices = await until_disconnect(request.receive, collect(stream, plan.params.n, counter))
    whole = whole_answer(heading, plan, choices, counter)
    return Response(whole.model_dump_json(), media_type="application/json")
