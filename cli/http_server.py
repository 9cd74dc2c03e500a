"""uvicorn, with signals and the end of its life left to us."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _SignalFreeServer(uvicorn.Server):
    """uvicorn closes its sockets at the first signal, where we still answer 503 to who comes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class HttpServer:
    """Serves `app` on a bound socket from now on, in the running event loop."""

    def __init__(self, app: ASGIApp, listener: socket.socket, closing_timeout_s: int) -> None:
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=closing_timeout_s,
        )
        self._server = _SignalFreeServer(config)
        self.ended = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Close the socket and what connections there are. Raises what ended the server before."""
        self._server.should_exit = True
        await self.ended
