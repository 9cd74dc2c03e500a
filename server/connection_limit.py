"""What holds for every connection, and the answer to those that are too many. Plain ASGI."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import error_body, note_rejection
from .open_paths import OPEN_PATHS

# In `scope["state"]` of what comes over a connection too many: how many there may be. Put there by
# who counts connections.
EXCEEDED_LIMIT = "exceeded_connection_limit"
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class ConnectionRules:
    """The limits on one connection, and who is told (`on_cut`, with the reason) of each cut."""

    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    keep_alive_timeout_s: float
    write_timeout_s: float
    on_cut: Callable[[str], None]


class ConnectionLimit:
    """Refuses what comes over a connection beyond the limit; probes are answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        limit = scope.get("state", {}).get(EXCEEDED_LIMIT) if scope["type"] == "http" else None
        if limit is None or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        note_rejection(scope, "too_many_connections")
        headers = {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"}
        response = JSONResponse(error_body(503, too_many_message(limit)), 503, headers)
        await response(scope, receive, send)


def too_many_message(max_connections: int) -> str:
    """What a client is told whose connection is one too many."""
    return (
        f"The server has {max_connections} connections open, which is the limit "
        "(--max-connections); try again later."
    )
