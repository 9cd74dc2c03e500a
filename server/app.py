"""The HTTP application: routes, and what stands before them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from .. import __version__
from ..engine.async_engine import AsyncEngine
from ..engine.chat_prompts import ChatPrompts
from ..engine.generation_defaults import GenerationDefaults
from ..engine.settings import Settings
from . import admin, chat, completions, dashboard, operations, pages
from .body_limit import BodyLimit
from .chat_formats import ChatFormats
from .connection_limit import ConnectionLimit, ConnectionRules
from .drain import Drain, DrainGate
from .errors import install_error_handlers
from .http_metrics import HttpMetrics
from .key_limit import RATE_LIMIT_HEADERS, KeyLimit
from .keys import ApiKeys, KeyRing
from .metrics import ServerMetrics
from .middleware import RequestIds
from .service import Service
from .sse import ClientGoneError
from .tenants import TenantSalts

logger = logging.getLogger(__name__)

EXPOSED_HEADERS = ["Retry-After", "X-Request-Id", *RATE_LIMIT_HEADERS]  # to other origins' pages
CLIENT_CLOSED_REQUEST = 499  # nginx's code; nobody reads it


def create_app(
    engine: AsyncEngine, settings: Settings, tenant_secret: bytes | None = None
) -> FastAPI:
    """Make the application for an engine whose tokenizer is set; it need not be ready yet.

    Front ends that share an engine have a `tenant_secret` in common, and count together.

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
    app.state.at_end.append(chats.close)
    formats = ChatFormats.choose(
        settings.tool_call_parser,
        settings.reasoning_parser,
        chats.source,
        shows_tools=chats.shows_tools,
    )
    logger.info("parsers of chats: %s", formats.describe())
    app.state.service = Service(
        engine,
        defaults=defaults,
        chats=chats,
        formats=formats,
        tenants=TenantSalts(tenant_secret) if settings.isolate_tenants else None,
    )
    app.state.metrics = ServerMetrics(
        settings, engine.info.served_names[0], engine.config, is_shared=tenant_secret is not None
    )
    app.state.drain = Drain()
    app.state.connections = ConnectionRules(
        max_connections=settings.max_connections,
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout,
        keep_alive_timeout_s=settings.keep_alive_timeout,
        write_timeout_s=settings.write_timeout,
        on_cut=app.state.metrics.on_rejected,
    )
    app.state.keys = KeyRing(settings.all_api_keys, settings.all_admin_keys)
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
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout
    )
    if settings.max_concurrent_requests_per_key or settings.rate_limit_per_key:
        app.add_middleware(
            KeyLimit,
            max_concurrent=settings.max_concurrent_requests_per_key,
            per_minute=settings.rate_limit_per_key,
        )
    app.add_middleware(ApiKeys, keys=app.state.keys)
    app.add_middleware(DrainGate, drain=app.state.drain)
    app.add_middleware(ConnectionLimit)
    app.add_middleware(HttpMetrics, metrics=app.state.metrics)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # clients' libraries send many of their own
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestIds)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if hasattr(app.state, "dashboard"):
        app.state.dashboard.start()
    yield
    app.state.drain.finish()
    for close in app.state.at_end:
        await asyncio.to_thread(close)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
