"""What one API key may ask for: so many requests at once, so many a minute. Plain ASGI."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .admin import ADMIN_PATHS
from .errors import error_body, note_rejection
from .open_paths import is_watching
from .token_bucket import TokenBucket

RETRY_SOON_S = 1  # nobody knows when one of a key's own requests will end
FEW_CLIENTS = 1024  # up to so many are kept without a look at which ones say nothing any more
RATE_LIMIT_HEADERS = tuple(
    f"X-RateLimit-{what}-Requests" for what in ("Limit", "Remaining", "Reset")
)


@dataclass
class _Client:
    """What is under way for one key, and what it has left."""

    bucket: TokenBucket | None
    num_open: int = 0

    def is_forgettable(self, now: float) -> bool:
        """Whether a new client would have just the same."""
        return self.num_open == 0 and (self.bucket is None or self.bucket.seconds_to_full(now) == 0)


class KeyLimit:
    """Answers 429 to a key with too many requests open, or too many in a minute.

    Only POST requests for work count, and none with an admin key. Without keys all clients are
    one. It must stand inside of ApiKeys, so that only keys that open the server are remembered.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_concurrent: int | None,
        per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._max_concurrent = max_concurrent
        self._per_minute = per_minute
        self._clock = clock
        self._clients: dict[bytes, _Client] = {}

    @property
    def num_clients(self) -> int:
        """How many keys are remembered."""
        return len(self._clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counted, or refuse it."""
        if not _is_counted(scope):
            await self._app(scope, receive, send)
            return
        now = self._clock()
        client = self._client(scope.get("state", {}).get("key_digest", b""), now)
        refusal = self._refusal(scope, client, now)
        if self._per_minute is not None:
            send = _with_headers(send, self._headers(client, now))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        client.num_open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            client.num_open -= 1

    def _client(self, key_digest: bytes, now: float) -> _Client:
        client = self._clients.get(key_digest)
        if client is None:
            if len(self._clients) >= FEW_CLIENTS:  # keys come and go with their files
                kept = {k: one for k, one in self._clients.items() if not one.is_forgettable(now)}
                self._clients = kept
            bucket = None if self._per_minute is None else TokenBucket(self._per_minute, now)
            client = self._clients[key_digest] = _Client(bucket)
        return client

    def _refusal(self, scope: Scope, client: _Client, now: float) -> JSONResponse | None:
        """Take a token of the client's, or say what it has too much of."""
        most = self._max_concurrent
        if most is not None and client.num_open >= most:
            note_rejection(scope, "too_many_concurrent")
            message = (
                f"This API key has {client.num_open} requests open, which is the limit of "
                f"{most} (--max-concurrent-requests-per-key); try again when one has ended."
            )
            headers = {"Retry-After": str(RETRY_SOON_S)}
        elif client.bucket is not None and not client.bucket.take(now):
            note_rejection(scope, "rate_limited")
            wait_s = client.bucket.seconds_to_next(now)
            message = (
                f"This API key has used up its {self._per_minute} requests a minute "
                f"(--rate-limit-per-key); try again in {wait_s:.3g} s."
            )
            # Retry-After knows whole seconds only; OpenAI's clients read the other one first.
            exact = str(math.ceil(wait_s * 1000))
            headers = {"Retry-After": str(math.ceil(wait_s)), "Retry-After-Ms": exact}
        else:
            return None
        body = error_body(429, message, code="rate_limit_exceeded")
        return JSONResponse(body, 429, headers)

    def _headers(self, client: _Client, now: float) -> dict[str, str]:
        assert client.bucket is not None
        values = (
            str(self._per_minute),
            str(client.bucket.remaining(now)),
            duration(client.bucket.seconds_to_full(now)),
        )
        return dict(zip(RATE_LIMIT_HEADERS, values, strict=True))


def _is_counted(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path, state = scope["path"], scope.get("state", {})
    return not (path in ADMIN_PATHS or is_watching(path) or state.get("is_admin", False))


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers


def duration(seconds: float) -> str:
    """A time as OpenAI's headers write it: 85ms, 1.5s, 6m0s. Rounded up to milliseconds."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    shown = f"{rest / 1000:g}s"
    return f"{minutes}m{shown}" if minutes else shown
