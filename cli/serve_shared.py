"""`octavo serve --api-server-count N`: one engine, several front ends, and who keeps them."""

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from ..engine.build import PlannedModel
from ..engine.hub import EngineHub
from ..engine.keeper import EngineKeeper
from ..engine.launch import EngineProcess
from ..engine.settings import Settings
from .announcements import announce_end, announce_ready
from .event_loop import first_of
from .front_end_process import Assignment
from .front_ends import FrontEnds
from .reloading import ReloadSignal
from .signals import StopSignals

logger = logging.getLogger("octavo")

MEMORY_FOLDER = Path("/dev/shm")


async def serve_shared(
    settings: Settings,
    planned: PlannedModel,
    process: EngineProcess,
    listeners: list[socket.socket],
) -> int:
    """Serve with one front end for each socket until SIGINT or SIGTERM, then let all drain.

    Returns the exit code.
    """
    folder = _shared_folder()

    def discard() -> None:
        front_ends.kill()
        shutil.rmtree(folder, ignore_errors=True)
        process.discard()

    keeper = EngineKeeper(process, planned.config, settings.engine_timeout)
    address = process.hub_address
    hub = EngineHub(keeper, address)
    secret = secrets.token_bytes(32)
    front_ends = FrontEnds(
        [
            Assignment(settings, planned, listener, address, secret, place, folder)
            for place, listener in enumerate(listeners)
        ],
        hub,
        settings.engine_timeout,
    )
    signals = StopSignals(discard)
    stopped = asyncio.create_task(signals.wait())
    if settings.has_secret_files:
        ReloadSignal().add(lambda: front_ends.signal(signal.SIGHUP))
    death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await hub.start(death.set_result, front_ends.note_serving)
    announcer = asyncio.create_task(
        announce_ready(front_ends.all_serving, hub.wait_ready, settings, planned, listeners[0])
    )
    try:
        front_ends.start()
        await first_of(stopped, death, front_ends.failed)
        for listener in listeners:
            listener.close()  # or connections would wait here that nobody takes
        await front_ends.stop(settings.drain_timeout)
    finally:
        announcer.cancel()
        await hub.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if death.done():
        return announce_end(death.result())
    if front_ends.failed.done() and not stopped.done():
        return announce_end(front_ends.failed.result())
    stopped.cancel()
    return announce_end(None)


def _shared_folder() -> Path:
    """Where the front ends' counters are, which each of them adds up for whoever scrapes it.

    In memory where there is such a place: whoever counts in a file on a disk that is full would be
    ended by SIGBUS.
    """
    where = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="octavo-metrics-", dir=where))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # read where prometheus_client is imported
    return folder
