"""How large a request's body may be, and how long it may take to arrive. Plain ASGI."""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import BodyTimeoutError, RequestTooLargeError, error_body, note_rejection

SLOWEST_BYTES_A_SECOND = 64 * 1024


class BodyLimit:
    """Refuses bodies of more than `max_bytes`, and those that arrive too slowly.

    The length counts as declared and as it is. The time is `timeout_s` from when the route asks
    for the body, and a second more for each 64 KiB that came: a limit between pieces would be met
    by a byte now and then, one for the whole would be too short for a large body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a route that reads on gets a 413 or a 408 raised at it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            error = RequestTooLargeError(self._max_bytes)
            # The body is not read, so the connection cannot be used again.
            headers = {"Connection": "close"}
            response = JSONResponse(error_body(413, error.detail), 413, headers)
            await response(scope, receive, send)
            return
        body = _LimitedBody(scope, receive, self._max_bytes, self._timeout_s)
        await self._app(scope, body.receive, send)


class _LimitedBody:
    """One body on its way in; what comes after it is only passed on."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._num_bytes = 0
        self._began: float | None = None
        self._is_complete = False

    async def receive(self) -> Message:
        """The next message. Raises RequestTooLargeError or BodyTimeoutError."""
        if self._is_complete:
            return await self._receive()
        now = time.monotonic()
        self._began = self._began or now
        allowed_s = self._timeout_s + self._num_bytes / SLOWEST_BYTES_A_SECOND
        try:
            message = await asyncio.wait_for(self._receive(), self._began + allowed_s - now)
        except asyncio.TimeoutError:
            note_rejection(self._scope, "body_timeout")
            raise BodyTimeoutError(self._timeout_s) from None
        self._num_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self._max_bytes:
            raise RequestTooLargeError(self._max_bytes)
        return message
