"""HTTP/1.1 under httpx, made for many small chunks.

httpx's own transport (httpcore, h11, anyio) spends most of a chunk's CPU time in locks, cancel
scopes and a parser in Python; a load generator takes that from the server it measures when both
share a machine. This one feeds httptools' parser straight from the event loop.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import httptools
import httpx


class StreamTransport(httpx.AsyncBaseTransport):
    """Requests over kept-alive connections, as many as are open at once; bodies are not decoded.

    Raises httpx's transport errors: ConnectTimeout or ConnectError when no connection is made
    within `connect_timeout_s`, ReadTimeout after `timeout_s` without a byte while an answer is
    awaited, RemoteProtocolError for what is not HTTP or ends too early.
    """

    def __init__(self, *, timeout_s: float, connect_timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[_Connection] = []
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; returns when the head of the answer is there."""
        content = await request.aread()
        connection = await self._connection(request.url)
        while True:
            try:
                connection.send(request, content)
                await connection.wait_for_head()
                break
            except BaseException as error:
                connection.abort()
                if not (isinstance(error, httpx.TransportError) and connection.was_closed_idle):
                    raise
            connection = await self._connection(request.url)
        return httpx.Response(
            connection.status, headers=connection.headers, stream=_Body(connection, self._idle)
        )

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _connection(self, url: httpx.URL) -> "_Connection":
        target = (url.host, url.port or (443 if url.scheme == "https" else 80))
        for connection in reversed(self._idle):
            if connection.target == target:
                self._idle.remove(connection)
                if connection.is_open:
                    return connection
        if url.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        connecting = asyncio.get_running_loop().create_connection(
            lambda: _Connection(target, self._timeout_s),
            *target,
            ssl=self._tls if url.scheme == "https" else None,
        )
        try:
            _, connection = await asyncio.wait_for(connecting, self._connect_timeout_s)
        except asyncio.TimeoutError:
            raise httpx.ConnectTimeout(f"no connection to {url.host}") from None
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection


class _Body(httpx.AsyncByteStream):
    """The body of one answer; its connection goes back to `idle` if it was read to the end."""

    def __init__(self, connection: "_Connection", idle: "list[_Connection]") -> None:
        self._connection = connection
        self._idle = idle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._connection.read():
            yield piece

    async def aclose(self) -> None:
        if self._connection.is_reusable:
            self._idle.append(self._connection)
        else:
            self._connection.abort()


class _Connection(asyncio.Protocol):
    """One connection, which carries one request at a time."""

    def __init__(self, target: tuple[str, int], timeout_s: float) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.is_open = False
        self._is_ended = False  # by the server
        self._num_requests = 0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self._pieces: deque[bytes] = deque()
        self._has_head = self._is_complete = self._has_length = self._is_kept_alive = False
        self._has_answer = False  # any byte of it
        self._error: httpx.TransportError | None = None
        self._last_byte_at = self._loop.time()

    @property
    def is_reusable(self) -> bool:
        """Whether the answer was read to its end and another request may follow."""
        return self.is_open and self._is_complete and self._is_kept_alive

    @property
    def was_closed_idle(self) -> bool:
        """Whether the server closed it between requests, unannounced, as llama-server does.

        The request that finds out has not been answered, and may be sent on another connection.
        """
        return self._num_requests > 1 and not self._has_answer and self._is_ended

    def send(self, request: httpx.Request, content: bytes) -> None:
        """Write a request; the answer to the one before must have been read to its end."""
        assert self._transport is not None
        self._begin()
        self._num_requests += 1
        lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        lines += [b"%s: %s" % header for header in request.headers.raw]
        self._transport.write(b"\r\n".join([*lines, b"", content]))
        self._watch()

    async def wait_for_head(self) -> None:
        """Wait until status and headers are there."""
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body, or nothing at its end."""
        while not self._pieces:
            if self._is_complete:
                return b""
            await self._wait()
        return self._pieces.popleft()

    def abort(self) -> None:
        """Drop the connection."""
        self._stop_watching()
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        if not self.is_open:
            raise httpx.RemoteProtocolError("the server closed the connection")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # A timer for each wait would cost more than the wait; one alarm looks how long ago the last
    # byte came and sets itself anew.
    def _watch(self) -> None:
        silence_s = self._loop.time() - self._last_byte_at
        if silence_s >= self._timeout_s:
            self._error = httpx.ReadTimeout(f"nothing came for {self._timeout_s:g} s")
            self._wake()
        else:
            self._alarm = self._loop.call_later(self._timeout_s - silence_s, self._watch)

    def _stop_watching(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._last_byte_at = self._loop.time()
        self._has_answer = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = httpx.RemoteProtocolError(f"not HTTP: {error}")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._is_ended = True
        self._stop_watching()
        if exc is not None:
            self._error = self._error or httpx.ReadError(str(exc))
        elif self._has_head and not self._has_length:
            self._is_complete = True
        elif not self._is_complete:
            self._error = self._error or httpx.RemoteProtocolError(
                "the server closed the connection before the answer's end"
            )
        self._wake()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True
            self._is_kept_alive = self._parser.should_keep_alive()  # the parser forgets it after
            self._stop_watching()
        else:  # a 1xx answer, which the real one follows
            self.headers.clear()
            self._has_length = False
