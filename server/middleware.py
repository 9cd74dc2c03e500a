"""What stands before every route: request ids, API keys, and the limit on bodies. Plain ASGI.

Starlette's BaseHTTPMiddleware would hide disconnects from the routes, so each of these wraps
`receive` or `send` itself.
"""

import hashlib
import hmac
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .admin import ADMIN_PATHS
from .errors import RequestTooLargeError, error_body
from .open_paths import OPEN_PATHS, is_page

KEY_LABEL_DIGITS = 12  # of the SHA-256: enough to tell keys apart, and nothing to guess one from
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestIds:
    """Gives each request an id (`scope["state"]["request_id"]`) and sends it as X-Request-Id.

    The client's own X-Request-Id is kept if it is 1 to 128 visible ASCII characters.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class ApiKeys:
    """Refuses requests without one of the keys; probes, version and metrics stay open.

    `ADMIN_PATHS` want an admin key, and are closed if there is none; it opens everything else too.
    Keys are compared by their hashes in constant time. The beginning of a key's hash is left
    for the metrics (`scope["state"]["key_label"]`), and whether it was an admin's (`is_admin`).
    """

    def __init__(self, app: ASGIApp, keys: list[str], admin_keys: list[str]) -> None:
        self._app = app
        self._admin_hashes = [_digest(key) for key in admin_keys]
        self._hashes = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, or 403 where no key would do."""
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
        elif scope["path"] in ADMIN_PATHS and not self._admin_hashes:
            message = "This endpoint is closed: the server was started without --admin-key."
            await JSONResponse(error_body(403, message), 403)(scope, receive, send)
        elif self._may_pass(scope):
            await self._app(scope, receive, send)
        else:
            body = error_body(
                401,
                "Incorrect API key provided: send one of the server's keys as "
                "`Authorization: Bearer KEY`.",
                code="invalid_api_key",
            )
            response = JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        given = _digest(key.strip()) if scheme.lower() == "bearer" else b""
        of_admins = [hmac.compare_digest(given, one) for one in self._admin_hashes]
        of_clients = [hmac.compare_digest(given, one) for one in self._hashes]
        state, path = scope.setdefault("state", {}), scope["path"]
        is_admin = state["is_admin"] = any(of_admins)
        if path in ADMIN_PATHS:
            return is_admin
        if not self._hashes or path in OPEN_PATHS or is_page(path):
            return True
        state["key_label"] = given.hex()[:KEY_LABEL_DIGITS]
        return is_admin or any(of_clients)


class BodyLimit:
    """Refuses bodies of more than `max_bytes`, by their declared or their real length."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a route that reads too much gets RequestTooLargeError."""
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
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise RequestTooLargeError(self._max_bytes)
            return message

        await self._app(scope, receive_counted, send)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
