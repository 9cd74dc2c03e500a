"""`octavo serve`, `octavo serve --plan` and `octavo info`."""

import asyncio
import contextlib
import dataclasses
import logging
import os

from rich.console import Console
from rich.table import Table

from ..engine.build import PlannedModel, plan_model
from ..engine.keeper import EngineKeeper
from ..engine.launch import EngineProcess
from ..engine.logs import configure_logging
from ..engine.settings import Settings, unknown_variables
from .announcements import announce_end, announce_ready
from .event_loop import run
from .front_end import FrontEnd
from .listening import listen, listen_together
from .reloading import ReloadSignal
from .signals import StopSignals
from .tls import certificate_of

logger = logging.getLogger("octavo")

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
    if settings.api_server_count > 1:
        from .serve_shared import serve_shared

        listeners = listen_together(settings.host, settings.port, settings.api_server_count)
        return run(serve_shared(settings, planned, process, listeners))
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # one process counts in its own memory
    listener = listen(settings.host, settings.port)
    return run(_serve(FrontEnd(settings, planned, listener, certificate), process))


async def _serve(front_end: FrontEnd, process: EngineProcess) -> int:
    signals = StopSignals(process.discard)
    stopped = asyncio.create_task(signals.wait())
    settings, planned = front_end.settings, front_end.planned
    keeper = EngineKeeper(process, planned.config, settings.engine_timeout)
    reloads = ReloadSignal() if settings.has_secret_files else None
    serving = asyncio.Event()
    announcer = asyncio.create_task(
        announce_ready(serving.wait(), keeper.wait_ready, settings, planned, front_end.listener)
    )
    try:
        why = await front_end.run(keeper, stopped, reloads, serving.set)
    finally:
        announcer.cancel()
        stopped.cancel()
    return announce_end(why)


def _plan_table(planned: PlannedModel) -> Table:
    table = Table(title=f"Memory plan for {planned.files.name}", show_header=False)
    for name, value in planned.plan.rows():
        table.add_row(name, value)
    return table


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"
