"""What the log says when a server is ready, and when it has ended."""

import logging
import socket
from collections.abc import Awaitable, Callable

from ..engine.build import PlannedModel, describe_model
from ..engine.errors import EngineDeadError
from ..engine.settings import Settings

logger = logging.getLogger("octavo")


async def announce_ready(
    serving: Awaitable[object],
    wait_ready: Callable[[], Awaitable[dict[str, float]]],
    settings: Settings,
    planned: PlannedModel,
    listener: socket.socket,
) -> None:
    """Say, when requests are taken and the model is loaded, where that is, and how long it took."""
    await serving
    try:
        phases = await wait_ready()
    except EngineDeadError:
        return  # its end is told elsewhere
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info(
        "start-up: %s", ", ".join(f"{name} {spent:.2f} s" for name, spent in phases.items())
    )
    logger.info(
        "ready: %s at %s://%s:%d/v1 after %.1f s",
        describe_model(planned, settings).served_names[0],
        "http" if settings.ssl_certfile is None else "https",
        shown,
        port,
        phases["total"],
    )


def announce_end(why: str | None) -> int:
    """Say why the server ended (None: it was told to). Returns the exit code."""
    if why is not None:
        logger.error("stopped: %s", why)
        return 1
    logger.info("stopped")
    return 0
