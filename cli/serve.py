"""`octavo serve`, `octavo serve --plan` and `octavo info`."""

import asyncio
import dataclasses
import logging
import socket
from typing import Any

from rich.console import Console
from rich.table import Table

from ..engine.async_engine import AsyncEngine
from ..engine.build import PlannedModel, describe_model, load_tokenizer, plan_model
from ..engine.errors import ConfigurationError, EngineDeadError
from ..engine.launch import EngineProcess
from ..engine.logs import configure_logging
from ..engine.settings import Settings, unknown_variables
from .signals import StopSignals

logger = logging.getLogger("octavo")

CLOSING_TIMEOUT_S = 5  # for connections that are open when every answer is written


def print_plan(settings: Settings) -> None:
    """Print the memory plan as a table on standard output."""
    Console().print(_plan_table(plan_model(settings)))


def print_info(settings: Settings) -> None:
    """Print the model's configuration and the memory plan."""
    planned = plan_model(settings)
    table = Table(title=f"{planned.files.name} ({planned.files.kind})", show_header=False)
    table.add_row("files", str(planned.files.path))
    table.add_row("parameters", f"{planned.model.num_parameters:,}")
    for field in dataclasses.fields(planned.model):
        table.add_row(field.name.replace("_", " "), _shorten(getattr(planned.model, field.name)))
    console = Console()
    console.print(table)
    console.print(_plan_table(planned))


def run_server(settings: Settings, process: EngineProcess) -> int:
    """Plan, load and serve until SIGINT or SIGTERM, then drain.

    Returns the exit code: 1 if the engine dies. A second signal ends the process at once.
    """
    configure_logging(settings.log_level, settings.log_format)
    for name in unknown_variables():
        logger.warning("%s in the environment sets nothing; `octavo config` lists what is", name)
    planned = plan_model(settings)
    if settings.log_format == "text":
        Console(stderr=True).print(_plan_table(planned))
    else:
        logger.info("memory plan: %s", dict(planned.plan.rows()))
    listener = _listen(settings.host, settings.port)
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    return run(_serve(settings, planned, process, listener))


async def _serve(
    settings: Settings, planned: PlannedModel, process: EngineProcess, listener: socket.socket
) -> int:
    signals = StopSignals(process)
    death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    # The engine process loads weights while this one builds tokenizer and app.
    info = describe_model(planned, settings)
    engine = AsyncEngine(process, settings, planned.config, info, death.set_result)
    await engine.start()
    try:
        engine.tokenizer = load_tokenizer(planned, settings)
        from ..server.app import create_app
        from .http_server import HttpServer

        app = create_app(engine, settings)
        server = HttpServer(app, listener, CLOSING_TIMEOUT_S)
        announcer = asyncio.create_task(_announce(engine, listener))
        stopped = asyncio.create_task(signals.wait())
        ends: tuple[asyncio.Future[Any], ...] = (stopped, death, server.ended)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done() and not death.done():
            drain = asyncio.create_task(app.state.drain.run(engine, settings.drain_timeout))
            ends = (drain, death)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await server.stop()
        announcer.cancel()
        stopped.cancel()
    finally:
        await engine.stop()
    if death.done():
        logger.error("stopped: %s", death.result())
        return 1
    logger.info("stopped")
    return 0


async def _announce(engine: AsyncEngine, listener: socket.socket) -> None:
    try:
        phases = await engine.wait_ready()
    except EngineDeadError:
        return  # `on_death` has told
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info(
        "start-up: %s", ", ".join(f"{name} {spent:.2f} s" for name, spent in phases.items())
    )
    logger.info(
        "ready: %s at http://%s:%d/v1 after %.1f s",
        engine.info.served_names[0],
        shown,
        port,
        phases["total"],
    )


def _listen(host: str, port: int) -> socket.socket:
    """Bind before loading anything, so that a taken port is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    listener.set_inheritable(False)
    return listener


def _plan_table(planned: PlannedModel) -> Table:
    table = Table(title=f"Memory plan for {planned.files.name}", show_header=False)
    for name, value in planned.plan.rows():
        table.add_row(name, value)
    return table


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"
