"""uvicorn's HTTP protocol, with limits on what a client may send, and leave unsent or unread."""

import asyncio
import json
from http import HTTPStatus
from typing import Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..server.connection_limit import (
    EXCEEDED_LIMIT,
    RETRY_AFTER_S,
    ConnectionRules,
    too_many_message,
)
from ..server.errors import error_body

MAX_HEADERS = 256
MAX_PIPELINED = 16  # requests that one connection may have waiting for their turn
# Connections beyond the limit that are heard, so that each gets its 503; the next are not even.
NUM_HEARD_IN_EXCESS = 64


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Whoever made it calls `sweep` now and then, for all that is a matter of time.

    uvicorn itself would wait without end for a request's head or for a client that does not read,
    and would keep a head of any size and any number of pipelined requests.
    """

    def __init__(self, *args: Any, rules: ConnectionRules, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rules = rules
        self._is_excess = False
        self._reading: Literal["nothing", "head", "body"] = "head"
        self._since = self.loop.time()  # reading what it reads
        self._has_come = False  # any byte of what it reads
        self._unparsed_bytes = 0  # since the parser last had something whole
        self._head_bytes = 0
        self._open_cycles: list[RequestResponseCycle] = []  # and some that have just ended
        self._refusal: tuple[int, str, str] | None = None  # status, reason, message
        self._unread_bytes = 0  # by the client, when they were last fewer
        self._unread_since: float | None = None

    # uvicorn narrows asyncio's parameter in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and give up one that is far beyond the limit."""
        super().connection_made(transport)
        limit = self._rules.max_connections
        excess = len(self.connections) - limit
        self._is_excess = excess > 0
        if self._is_excess:
            self.app_state = {**self.app_state, EXCEEDED_LIMIT: limit}
        if excess > NUM_HEARD_IN_EXCESS:
            self._cut(503, "too_many_connections", too_many_message(limit))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request of the connection; uvicorn tells the newest one alone."""
        super().connection_lost(exc)
        for cycle in self._open_cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse what is not HTTP or too much of it."""
        self._unset_keepalive_if_required()
        if self._reading == "nothing":
            self._read("head")
        self._has_come = True
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # offered, not asked for: the answer is plain HTTP/1.1
        except httptools.HttpParserError:
            self._refuse()
            return
        # What the parser still collects: a head, or one of the headers that may follow a body.
        if self._unparsed_bytes > self._rules.max_header_bytes:
            self._refuse_head(f"{self._rules.max_header_bytes:,} bytes (--max-header-bytes)")
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins. Raises, which ends the parsing, if too many wait before it."""
        self._read("head")
        self._has_come = True
        self._head_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refusal = (400, "invalid", "Too many pipelined requests.")
            raise ValueError(self._refusal)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request line has come."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come, of the head or after the body. Raises if there are too many."""
        self._count_head(len(name) + len(value) + len(": \r\n"))
        if len(self.headers) >= MAX_HEADERS:
            self._refuse_head(f"{MAX_HEADERS} headers")
            raise ValueError(self._refusal)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the request begins, or waits for its turn."""
        self._unparsed_bytes = 0
        self._read("body")
        super().on_headers_complete()
        still_open = [cycle for cycle in self._open_cycles if not cycle.response_complete]
        self._open_cycles = [*still_open, self.cycle]
        if self._is_excess:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has come as a whole."""
        self._unparsed_bytes = 0
        self._reading = "nothing"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written: what has come of the next request has all its time from now on."""
        self._since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The client reads."""
        self._unread_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP in OpenAI's shape, not in uvicorn's."""
        self._refuse()

    def sweep(self, now: float) -> None:
        """Close the connection if its client has taken too long over anything."""
        if self._is_stuck(now):
            self.logger.info("a client left its answer unread: its connection is closed")
            self.transport.abort()
        elif self.transport.is_closing() or self._is_answering:
            return  # a body that does not come is the application's to refuse
        elif self._reading == "head" and now - self._since > self._rules.header_timeout_s:
            self._refuse_late_head()
        elif self._reading == "body" and now - self._since > self._rules.header_timeout_s:
            self.transport.close()  # it is answered already, and nobody wants the rest

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_stuck(self, now: float) -> bool:
        """Whether what waits for the client has become no less for --write-timeout."""
        unread = self.transport.get_write_buffer_size()
        # Otherwise more is written meanwhile, and the number says nothing about the client.
        is_settled = self.flow.write_paused or not self._is_answering
        if unread == 0 or not is_settled:
            self._unread_since = None
        elif self._unread_since is None or unread < self._unread_bytes:
            self._unread_since, self._unread_bytes = now, unread
        else:
            return now - self._unread_since > self._rules.write_timeout_s
        return False

    def _read(self, what: Literal["head", "body"]) -> None:
        self._reading, self._has_come = what, False
        self._since = self.loop.time()

    def _count_head(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if self._head_bytes > self._rules.max_header_bytes:
            self._refuse_head(f"{self._rules.max_header_bytes:,} bytes (--max-header-bytes)")
            raise ValueError(self._refusal)

    def _refuse_head(self, limit: str) -> None:
        message = f"The request's head is larger than allowed: {limit}."
        self._refusal = (431, "headers_too_large", message)

    def _refuse_late_head(self) -> None:
        if not self._has_come:
            self.transport.close()  # opened in advance, and never used
            return
        limit = f"{self._rules.header_timeout_s:g} s (--header-timeout)"
        self._cut(408, "header_timeout", f"The request's head did not arrive within {limit}.")

    def _refuse(self) -> None:
        """Answer what the parser gave up, unless another answer is on its way, and close."""
        cycle = self.cycle
        is_own_turn = not self._is_answering or (
            self._reading == "body" and not self.pipeline and not cycle.response_started
        )
        status, reason, message = self._refusal or (400, "invalid", "This is not valid HTTP/1.1.")
        if is_own_turn:
            self._cut(status, reason, message)
        else:
            self._rules.on_cut(reason)
            self.transport.close()

    def _cut(self, status: int, reason: str, message: str) -> None:
        """Answer without the application, and close."""
        self._rules.on_cut(reason)
        body = json.dumps(error_body(status, message)).encode()
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            head.append(f"Retry-After: {RETRY_AFTER_S}")
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()
