"""`octavo serve`, `octavo serve --plan` and `octavo info`."""

import asyncio
import contextlib
import dataclasses
import logging
import socket
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..engine.async_engine import AsyncEngine
from ..engine.build import PlannedModel, describe_model, load_tokenizer, plan_model
from ..engine.errors import ConfigurationError, EngineDeadError
from ..engine.keeper import EngineKeeper
from ..engine.launch import EngineProcess
from ..engine.logs import configure_logging
from ..engine.settings import Settings, unknown_variables
from .reloading import ReloadSignal
from .signals import StopSignals
from .tls import Certificate, certificate_of

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("octavo")

CLOSING_TIMEOUT_S = 2  # for connections that are open when every answer is written
LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
    has_keys = bool(settings.all_api_keys())
    settings.all_admin_keys()  # a file that cannot be read is told before anything is loaded
    if not has_keys and settings.host not in LOOPBACK:
        logger.warning(
            "listening on %s without --api-key: whoever reaches it may use it", settings.host
        )
    for name in unknown_variables():
        logger.warning("%s in the environment sets nothing; `octavo config` lists what is", name)
    planned = plan_model(settings)
    if settings.log_format == "text":
        with contextlib.suppress(OSError):  # a disk that is full
            Console(stderr=True).print(_plan_table(planned))
    else:
        logger.info("memory plan: %s", dict(planned.plan.rows()))
    certificate = certificate_of(settings)
    listener = _listen(settings.host, settings.port)
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    return run(_serve(settings, planned, process, listener, certificate))


async def _serve(
    settings: Settings,
    planned: PlannedModel,
    process: EngineProcess,
    listener: socket.socket,
    certificate: Certificate | None,
) -> int:
    signals = StopSignals(process)
    stopped = asyncio.create_task(signals.wait())
    reloads = ReloadSignal() if settings.has_secret_files else None
    death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    # The engine process loads weights while this one builds tokenizer and app, on a thread, so that
    # a signal is heard meanwhile.
    info = describe_model(planned, settings)
    keeper = EngineKeeper(process, planned.config, settings.engine_timeout)
    engine = AsyncEngine(keeper, settings, planned.config, info, death.set_result)
    await engine.start()
    try:
        making = asyncio.create_task(asyncio.to_thread(_make_app, engine, planned, settings))
        await _first_of(making, stopped)
        if not making.done():
            logger.info("stopped while it was loading")
            return 0
        app = making.result()
        if reloads is not None:
            reloads.add(app.state.keys.reload)
            if certificate is not None:
                reloads.add(certificate.reload)
        from .http_server import HttpServer

        tls, scheme = (certificate.context, "https") if certificate else (None, "http")
        server = HttpServer(app, listener, CLOSING_TIMEOUT_S, tls)
        announcer = asyncio.create_task(_announce(engine, listener, scheme))
        await _first_of(stopped, death, server.ended)
        if stopped.done() and not death.done():
            drain = asyncio.create_task(app.state.drain.run(engine, settings.drain_timeout))
            await _first_of(drain, death)
            if drain.done():
                drain.result()
        app.state.drain.finish()
        ended_by_itself = server.ended.done()
        await server.stop()
        announcer.cancel()
    finally:
        stopped.cancel()
        await engine.stop()
    if death.done() or ended_by_itself:
        logger.error("stopped: %s", death.result() if death.done() else "the HTTP server ended")
        return 1
    logger.info("stopped")
    return 0


def _make_app(engine: AsyncEngine, planned: PlannedModel, settings: Settings) -> "FastAPI":
    engine.tokenizer = load_tokenizer(planned, settings)
    from ..server.app import create_app

    return create_app(engine, settings)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _announce(engine: AsyncEngine, listener: socket.socket, scheme: str) -> None:
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
        "ready: %s at %s://%s:%d/v1 after %.1f s",
        engine.info.served_names[0],
        scheme,
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
