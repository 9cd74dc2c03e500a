"""The HTTP application: routes, and what stands before them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from .. import __version__
from ..engine.async_engine import AsyncEngine
from ..engine.chat_prompts import ChatPrompts
from ..engine.generation_defaults import GenerationDefaults
from ..engine.settings import Settings
from . import admin, chat, completions, dashboard, operations, pages
from .chat_formats import ChatFormats
from .drain import Drain, DrainGate
from .errors import install_error_handlers
from .http_metrics import HttpMetrics
from .metrics import ServerMetrics
from .middleware import ApiKeys, BodyLimit, RequestIds
from .service import Service
from .sse import ClientGoneError

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499  # nginx's code; nobody reads it


def create_app(engine: AsyncEngine, settings: Settings) -> FastAPI:
    """Make the application for an engine whose tokenizer is set; it need not be ready yet.

    Raises ConfigurationError if the chat template is not valid.
    """
    app = FastAPI(
        title="Octavo",
        version=__version__,
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # clients lose the body on the way
        lifespan=_lifespan,
    )
    app.state.at_end = []
    defaults = GenerationDefaults.choose(
        settings.generation_config,
        engine.tokenizer.generation_defaults,
        settings.override_generation_config,
    )
    logger.info("sampling defaults of requests: %s", defaults.describe())
    chats = ChatPrompts(engine.tokenizer, trusts_requests=settings.trust_request_chat_template)
    formats = ChatFormats.choose(
        settings.tool_call_parser,
        settings.reasoning_parser,
        chats.source,
        shows_tools=chats.shows_tools,
    )
    logger.info("parsers of chats: %s", formats.describe())
    app.state.service = Service(engine, defaults=defaults, chats=chats, formats=formats)
    app.state.metrics = ServerMetrics(settings, engine.info.served_names[0], engine.config)
    app.state.drain = Drain()
    engine.listeners.append(app.state.metrics)
    if settings.otlp_traces_endpoint is not None:
        from .tracing import Tracing  # takes a while, and packages that not all have

        tracing = Tracing(settings.otlp_traces_endpoint, engine.info.served_names[0])
        engine.listeners.append(tracing)
        app.state.at_end.append(tracing.close)
    install_error_handlers(app)
    app.add_exception_handler(ClientGoneError, _on_client_gone)
    for room in (completions, chat, operations, admin):
        app.include_router(room.router)
    if settings.ui:
        app.state.dashboard = dashboard.Dashboard(engine, app.state.metrics)
        app.state.drain.when_over.append(app.state.dashboard.close)
        for room in (dashboard, pages):
            app.include_router(room.router)
    # The one added last is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(ApiKeys, keys=settings.all_api_keys(), admin_keys=settings.all_admin_keys())
    app.add_middleware(DrainGate, drain=app.state.drain)
    app.add_middleware(HttpMetrics, metrics=app.state.metrics)
    app.add_middleware(RequestIds)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if hasattr(app.state, "dashboard"):
        app.state.dashboard.start()
    yield
    for close in app.state.at_end:
        await asyncio.to_thread(close)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
