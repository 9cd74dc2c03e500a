"""Counts HTTP answers, and the requests that were turned away. Plain ASGI, outside of all else."""

import time
from collections.abc import Mapping
from types import MappingProxyType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import ServerMetrics
from .open_paths import is_watching

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN_ROUTE = "none"  # paths come from clients: labels must stay few
_REASONS: Mapping[int, str] = MappingProxyType(
    {401: "unauthorized", 403: "unauthorized", 404: "not_found", 413: "too_large"}
)


class HttpMetrics:
    """Observes every request but those that only look on: probes, scrapes, the page."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or is_watching(scope["path"]):
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500  # if nothing is sent at all

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._note(scope, status, time.monotonic() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.on_answer(route, method, status, seconds)
        reason = scope.get("state", {}).get("rejection") or _REASONS.get(status)
        if reason is None and 400 <= status < 499:
            reason = "invalid"
        if reason is not None:
            self._metrics.on_rejected(reason)
