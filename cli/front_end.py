"""A front end: tokenizer, application and HTTP server over an engine, until told to stop."""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.async_engine import AsyncEngine
from ..engine.build import PlannedModel, describe_model, load_tokenizer
from ..engine.engine_link import EngineLink
from ..engine.settings import Settings
from .event_loop import first_of
from .reloading import ReloadSignal
from .tls import Certificate

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("octavo")

CLOSING_TIMEOUT_S = 2  # for connections that are open when every answer is written


@dataclass(frozen=True)
class FrontEnd:
    """What a front end is made of. `tenant_secret`: if there are several, what they share."""

    settings: Settings
    planned: PlannedModel
    listener: socket.socket
    certificate: Certificate | None
    tenant_secret: bytes | None = None

    async def run(
        self,
        link: EngineLink,
        stopped: asyncio.Future[Any],
        reloads: ReloadSignal | None,
        on_serving: Callable[[], None],
    ) -> str | None:
        """Serve until `stopped`, then drain. Returns why it ended, None if it was told to.

        `reloads` has keys and certificate read again; `on_serving` is called when requests are
        taken.
        """
        settings = self.settings
        death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # The engine process loads weights while this one builds tokenizer and app, on a thread, so
        # that a signal is heard meanwhile.
        info = describe_model(self.planned, settings)
        engine = AsyncEngine(link, settings, self.planned.config, info, death.set_result)
        await engine.start()
        try:
            making = asyncio.create_task(asyncio.to_thread(self._make_app, engine))
            await first_of(making, stopped)
            if not making.done():
                logger.info("stopped while it was loading")
                return None
            app = making.result()
            if reloads is not None:
                reloads.add(app.state.keys.reload)
                if self.certificate is not None:
                    reloads.add(self.certificate.reload)
            from .http_server import HttpServer

            tls = self.certificate.context if self.certificate else None
            server = HttpServer(app, self.listener, CLOSING_TIMEOUT_S, tls)
            await server.wait_started()
            on_serving()
            await first_of(stopped, death, server.ended)
            if stopped.done() and not death.done():
                drain = asyncio.create_task(app.state.drain.run(engine, settings.drain_timeout))
                await first_of(drain, death)
                if drain.done():
                    drain.result()
            app.state.drain.finish()
            ended_by_itself = server.ended.done()
            await server.stop()
        finally:
            await engine.stop()
        if death.done():
            return death.result()
        return "the HTTP server ended" if ended_by_itself else None

    def _make_app(self, engine: AsyncEngine) -> "FastAPI":
        engine.tokenizer = load_tokenizer(self.planned, self.settings)
        from ..server.app import create_app

        return create_app(engine, self.settings, self.tenant_secret)
