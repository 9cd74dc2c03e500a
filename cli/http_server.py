"""uvicorn, with limits of our own, and with signals and the end of its life left to us."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from ..server.connection_limit import ConnectionRules
from .guarded_protocol import GuardedProtocol
from .open_files import allow_connections

logger = logging.getLogger("octavo")

SWEEP_INTERVAL_S = 0.5
START_POLL_S = 0.01
# What the kernel keeps for a client that does not read: without a limit it is megabytes for each.
KERNEL_SEND_BYTES = 256 * 1024
# A peer that lost its power says nothing: ask after a minute, and give up after another.
PROBE_AFTER_S, PROBE_INTERVAL_S, NUM_PROBES = 60, 15, 4


class _GuardedServer(uvicorn.Server):
    """uvicorn's server with limits on its connections.

    uvicorn closes its sockets at the first signal, where we still answer 503 to who comes.
    """

    def __init__(self, config: uvicorn.Config, rules: ConnectionRules) -> None:
        super().__init__(config)
        self._rules = rules

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen. uvicorn's own would let a TLS handshake take a minute, in which the
        connection is nobody's: it has no protocol yet that could be swept.
        """
        config, loop = self.config, asyncio.get_running_loop()
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        make_protocol = functools.partial(
            GuardedProtocol,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            rules=self._rules,
        )
        handshake_timeout_s = None if config.ssl is None else self._rules.header_timeout_s
        self.servers = [
            await loop.create_server(
                make_protocol,
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=handshake_timeout_s,
            )
            for listener in sockets or ()
        ]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class HttpServer:
    """Serves `app` on a bound socket from now on, in the running event loop; HTTPS with `tls`.

    `app.state.connections` are the rules for its connections.
    """

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        closing_timeout_s: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        rules = app.state.connections
        assert isinstance(rules, ConnectionRules)
        max_connections = allow_connections(rules.max_connections)
        rules = dataclasses.replace(rules, max_connections=max_connections)
        _bound(listener)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=closing_timeout_s,
        )
        config.load()
        if tls is not None:
            config.ssl = tls  # uvicorn's own would allow ciphers that are out of use
        # uvicorn counts whole seconds only in its annotations.
        config.timeout_keep_alive = rules.keep_alive_timeout_s  # type: ignore[assignment]
        self._server = _GuardedServer(config, rules)
        self._sweeping = asyncio.create_task(self._sweep(), name="connection-sweep")
        self.ended = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def wait_started(self) -> None:
        """Return when it listens, or has ended."""
        while not (self._server.started or self.ended.done()):
            await asyncio.sleep(START_POLL_S)

    async def stop(self) -> None:
        """Close the socket and what connections there are. Raises what ended the server before."""
        self._server.should_exit = True
        await self.ended
        self._sweeping.cancel()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            for connection in list(self._server.server_state.connections):
                if not isinstance(connection, GuardedProtocol):
                    continue
                try:
                    connection.sweep(loop.time())
                except Exception:  # of one connection: the others need their limits still
                    logger.exception("a connection's limits could not be checked")


def _bound(listener: socket.socket) -> None:
    """Options that each accepted connection inherits."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_AFTER_S),
        ("TCP_KEEPINTVL", PROBE_INTERVAL_S),
        ("TCP_KEEPCNT", NUM_PROBES),
    ):
        if hasattr(socket, name):  # the first is called otherwise on macOS
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
