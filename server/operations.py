"""Everything but generation: models, tokens, probes, version and metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from .. import __version__
from ..engine.errors import BadRequestError, EngineDeadError, NotFoundError
from ..engine.template_input import TemplateInput
from .chat_protocol import TokenizeRequest, as_mappings, num_characters
from .drain import Drain
from .errors import error_body
from .metrics import CONTENT_TYPE, ServerMetrics
from .protocol import DetokenizeRequest
from .request_timeout import shortest, timeout_of
from .responses import (
    ANSWERS_OF_ERRORS,
    DetokenizeResponse,
    LoadResponse,
    ModelCard,
    ModelList,
    TokenizeResponse,
    VersionResponse,
)
from .service import Service, ServiceOfApp
from .sse import until_disconnect
from .state_collector import ServerState

# A hung engine must not cost the scrape, which is what tells of it.
SCRAPE_TIMEOUT_S = 1.0

router = APIRouter(responses=ANSWERS_OF_ERRORS)


@router.get("/v1/models")
async def list_models(service: ServiceOfApp) -> ModelList:
    """Every name under which the model is served."""
    return ModelList(data=[_card(service, name) for name in service.engine.info.served_names])


@router.get("/v1/models/{name:path}")
async def get_model(name: str, service: ServiceOfApp) -> ModelCard:
    """One of the names. A name may hold slashes."""
    if not name:
        raise NotFoundError("Name a model after /v1/models/, or ask for /v1/models.", "model")
    return _card(service, service.served_name(name))


@router.post("/tokenize", response_model_exclude_unset=True)
async def tokenize(
    body: TokenizeRequest, request: Request, service: ServiceOfApp
) -> TokenizeResponse:
    """Token ids of a prompt or of a conversation."""
    service.served_name(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise BadRequestError("Give exactly one of `prompt` and `messages`.", "prompt")
    timeout_s = shortest(timeout_of(request.headers), service.engine.settings.request_timeout)
    with service.engine.reading():
        tokens = await until_disconnect(request.receive, _tokens(body, service), timeout_s)
    answer = TokenizeResponse(
        count=len(tokens), max_model_len=service.engine.info.max_model_len, tokens=tokens
    )
    if body.return_token_strs:
        answer.token_strs = [service.engine.tokenizer.token_text(token) for token in tokens]
    return answer


async def _tokens(body: TokenizeRequest, service: Service) -> list[int]:
    """Raises BadRequestError for a text that is longer than any prompt may be."""
    if body.messages is not None:
        service.prompts.check_length(num_characters(body.messages), "messages")
        given = TemplateInput(
            as_mappings(body.messages),
            tools=body.tools,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            variables=body.chat_template_kwargs or {},
        )
        text = await service.chats.render_served(given)
        special = bool(body.add_special_tokens)
    else:
        text = body.prompt or ""
        special = True if body.add_special_tokens is None else body.add_special_tokens
    service.prompts.check_length(len(text), "prompt" if body.messages is None else "messages")
    (tokens,) = await service.prompts.encode([text], special)
    return tokens


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, service: ServiceOfApp) -> DetokenizeResponse:
    """The text of token ids."""
    service.served_name(body.model)
    info, tokens = service.engine.info, body.tokens
    if len(tokens) > info.max_model_len:
        raise BadRequestError(
            f"This model's maximum context length is {info.max_model_len} tokens, and no text of "
            f"more is needed: got {len(tokens)}.",
            "tokens",
        )
    outside = [token for token in tokens if not 0 <= token < info.vocab_size]
    if outside:
        raise BadRequestError(
            f"Token id {outside[0]} is out of vocabulary. Vocabulary size: {info.vocab_size}",
            "tokens",
        )
    text = service.engine.tokenizer.decode(tokens, skip_special_tokens=False)
    return DetokenizeResponse(prompt=text)


@router.get("/livez", response_class=Response)
async def livez() -> Response:
    """Whether this process answers at all."""
    return Response()


@router.get("/readyz", response_class=Response)
async def readyz(request: Request, service: ServiceOfApp) -> Response:
    """Whether new requests are taken: the model is loaded, and the server is not ending."""
    drain = request.app.state.drain
    assert isinstance(drain, Drain)
    if drain.has_begun:
        return _unavailable("the server is shutting down")
    return Response() if service.engine.status.is_ready else _unavailable("the model is not loaded")


@router.get("/ping", response_class=Response)
@router.get("/health", response_class=Response)
async def health(service: ServiceOfApp) -> Response:
    """Whether the engine is ready and, if it has work, makes progress."""
    engine = service.engine
    if not engine.status.is_ready:
        return _unavailable("the engine is not ready")
    if engine.is_stalled:
        age = engine.status.last_step_age_s
        return _unavailable(f"the engine has work, but its last step ended {age:.0f} s ago")
    return Response()


@router.get("/version")
async def version() -> VersionResponse:
    """The server's version."""
    return VersionResponse(version=__version__)


@router.get("/load")
async def load(service: ServiceOfApp) -> LoadResponse:
    """How many choices wait or run, without waiting for the engine."""
    return LoadResponse(server_load=service.engine.status.num_open)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, service: ServiceOfApp) -> Response:
    """Prometheus metrics; gauges are read from the engine now."""
    collected, drain = request.app.state.metrics, request.app.state.drain
    assert isinstance(collected, ServerMetrics) and isinstance(drain, Drain)
    engine = service.engine
    try:
        stats = await engine.stats(SCRAPE_TIMEOUT_S)
    except EngineDeadError:
        stats = None
    status = engine.status
    text = collected.render(
        ServerState(
            stats=stats,
            is_ready=status.is_ready,
            is_draining=drain.has_begun,
            last_step_age_s=status.last_step_age_s,
            startup_seconds=status.startup_seconds,
            resident_bytes=status.resident_bytes,
            num_restarts=status.num_restarts,
        )
    )
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def _card(service: Service, name: str) -> ModelCard:
    info = service.engine.info
    return ModelCard(
        id=name, created=info.created, root=info.path, max_model_len=info.max_model_len
    )


def _unavailable(why: str) -> JSONResponse:
    return JSONResponse(error_body(503, why), 503, {"Retry-After": "5"})
