"""Server-sent events, and answers that end as soon as nobody is there to read them."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..engine.errors import TimedOutError
from .errors import describe

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

DONE = b"data: [DONE]\n\n"
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold small chunks back
}


class ClientGoneError(Exception):
    """The client closed the connection; no answer can reach it."""


def event(data: BaseModel | dict[str, Any]) -> bytes:
    """One event: `data: {json}` and an empty line."""
    if isinstance(data, BaseModel):
        text = data.model_dump_json()
    else:
        text = json.dumps(data, ensure_ascii=False)
    return event_of(text.encode())


def event_of(json_text: bytes) -> bytes:
    """One event of what is JSON already; it must hold no line break."""
    return b"data: " + json_text + b"\n\n"


class EventStream(Response):
    """Streams events and `[DONE]`; ends the work behind them the moment the client is gone.

    Starlette's own streaming response notices a vanished client only when it next sends, if the
    server speaks ASGI 2.4: a request that still waits in the queue would stay there. An error after
    the first byte is sent as an event in OpenAI's shape, followed by `[DONE]` (`last`). `close` is
    called in any case, even if not one event was taken.
    """

    def __init__(
        self, events: AsyncIterator[bytes], close: Callable[[], None], last: bytes = DONE
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, as an ASGI application."""
        try:
            await until_disconnect(receive, self._write(send))
        except (ClientGoneError, OSError):
            pass  # nobody is there to be told
        finally:
            self._close()

    async def _write(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            async for chunk in self._events:
                await _send_part(send, chunk)
        except OSError:
            raise
        except Exception as error:
            status, body, _ = describe(error)
            if status == 500:
                logger.exception("a stream failed after it began")
            await _send_part(send, event(body))
        await send({"type": "http.response.body", "body": self._last, "more_body": False})


async def _send_part(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def until_disconnect(
    receive: Callable[[], Awaitable[Any]],
    work: Coroutine[Any, Any, Result],
    timeout_s: float | None = None,
) -> Result:
    """The result of `work`, which is cancelled if the client disconnects first, or after a time.

    Raises ClientGoneError or TimedOutError then. The request's body must have been read.
    """
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait(
            {worker, watcher}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if worker.done():
            return worker.result()
        raise ClientGoneError if watcher.done() else TimedOutError
    finally:
        for task in (worker, watcher):
            task.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
