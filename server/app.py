"""The HTTP application: routes, and what stands before them."""

from fastapi import FastAPI, Request, Response

from .. import __version__
from ..engine.async_engine import AsyncEngine
from ..engine.settings import Settings
from . import chat, completions, operations
from .errors import install_error_handlers
from .metrics import ServerMetrics
from .middleware import ApiKeys, BodyLimit, RequestIds
from .service import Service
from .sse import ClientGoneError

CLIENT_CLOSED_REQUEST = 499  # nginx's code; nobody reads it


def create_app(engine: AsyncEngine, settings: Settings) -> FastAPI:
    """Make the application for an engine whose tokenizer is set; it need not be ready yet.

    Raises ConfigurationError if the chat template is not valid.
    """
    app = FastAPI(title="Octavo", version=__version__, docs_url="/docs", redoc_url=None)
    app.state.service = Service(engine)
    app.state.metrics = ServerMetrics(
        settings.metrics_prefix, engine.info.served_names[0], engine.config
    )
    engine.listener = app.state.metrics
    install_error_handlers(app)
    app.add_exception_handler(ClientGoneError, _on_client_gone)
    for room in (completions, chat, operations):
        app.include_router(room.router)
    # The one added last is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(ApiKeys, keys=settings.api_key)
    app.add_middleware(RequestIds)
    return app


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
