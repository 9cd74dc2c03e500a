"""The end of a server's life: no new requests, time for those under way, then a proper ending."""

import asyncio
import logging
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..engine.async_engine import AsyncEngine
from .admin import ADMIN_PATHS
from .errors import error_body, note_rejection
from .open_paths import is_watching

logger = logging.getLogger(__name__)

LAST_WORDS_TIMEOUT_S = 3.0  # for the final chunks of what the drain's end cut short


class Drain:
    """How many API requests are under way, and whether new ones are still let in."""

    def __init__(self) -> None:
        self.has_begun = False
        self._num_open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self.when_over: list[Callable[[], None]] = []

    def finish(self) -> None:
        """Nothing is waited for any more: let those go who only look on."""
        for leave in self.when_over:
            leave()

    def enter(self) -> None:
        """A request has come in."""
        self._num_open += 1
        self._none_open.clear()

    def leave(self) -> None:
        """Its answer is written, or nobody is there to read it."""
        self._num_open -= 1
        if self._num_open == 0:
            self._none_open.set()

    async def run(self, engine: AsyncEngine, timeout_s: float) -> None:
        """Let no request in any more, and return when those under way have ended.

        What runs after `timeout_s` is ended: its client gets what there is, with `finish_reason`
        abort.
        """
        self.has_begun = True
        logger.info("draining: %d requests are under way", self._num_open)
        if await self._is_over_within(timeout_s):
            logger.info("drained")
            return
        engine.close()  # to what has not come so far as to be submitted
        ended = engine.abort(None, "drain_timeout")
        logger.warning("the drain timed out after %g s: %d choices are cut short", timeout_s, ended)
        if not await self._is_over_within(LAST_WORDS_TIMEOUT_S):
            logger.warning("%d clients do not read their answers' ends", self._num_open)

    async def _is_over_within(self, timeout_s: float) -> bool:
        if self._none_open.is_set():
            return True
        try:
            await asyncio.wait_for(self._none_open.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True


class DrainGate:
    """Refuses API requests with 503 while the server drains; probes, metrics, operators go on."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counted, or refuse it."""
        if scope["type"] != "http" or scope["path"] in ADMIN_PATHS or is_watching(scope["path"]):
            await self._app(scope, receive, send)
        elif self._drain.has_begun:
            note_rejection(scope, "draining")
            # Retrying reaches a server that lives only over a new connection.
            headers = {"Retry-After": "1", "Connection": "close"}
            body = error_body(503, "The server is shutting down and takes no new requests.")
            await JSONResponse(body, 503, headers)(scope, receive, send)
        else:
            self._drain.enter()
            try:
                await self._app(scope, receive, send)
            finally:
                self._drain.leave()
