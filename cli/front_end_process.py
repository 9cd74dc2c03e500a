"""One of several front ends that share an engine, in a process of its own."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ..engine.build import PlannedModel
from ..engine.errors import OctavoError
from ..engine.logs import configure_logging
from ..engine.settings import Settings
from ..engine.shared_engine import SharedEngine
from ..server.shared_counts import count_in_place
from .event_loop import run
from .front_end import FrontEnd
from .reloading import ReloadSignal
from .tls import certificate_of

logger = logging.getLogger("octavo")

PARENT_POLL_S = 0.5
HELD_BACK = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that whoever starts this process blocks in it, until it handles them."""


@dataclass(frozen=True)
class Assignment:
    """What the process that owns the engine gives one front end."""

    settings: Settings
    planned: PlannedModel
    listener: socket.socket
    hub_address: str
    tenant_secret: bytes
    place: int  # the same for whoever follows after this one's end
    metrics_folder: Path


def main(assignment: Assignment, parent_pid: int) -> None:
    """Entry point of the process. It ends when told to, or when its parent is gone."""
    # A terminal sends it to all of us; the parent decides when we stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = assignment.settings
    if not settings.has_secret_files:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    name = f"front-end-{assignment.place}"
    configure_logging(settings.log_level, settings.log_format, name)
    try:
        sys.exit(run(_serve(assignment, parent_pid)))
    except OctavoError as error:
        with contextlib.suppress(OSError):  # a disk that is full
            print(f"octavo: {error.message}", file=sys.stderr)
        sys.exit(1)


async def _serve(assignment: Assignment, parent_pid: int) -> int:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    reloads = ReloadSignal() if assignment.settings.has_secret_files else None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    stopped = asyncio.create_task(told.wait())
    orphaned = asyncio.create_task(_end_with(parent_pid, assignment.metrics_folder))
    count_in_place(assignment.place)
    front_end = FrontEnd(
        assignment.settings,
        assignment.planned,
        assignment.listener,
        certificate_of(assignment.settings),
        assignment.tenant_secret,
    )
    engine = SharedEngine(assignment.hub_address, identity_of(os.getpid()))
    try:
        why = await front_end.run(engine, stopped, reloads, engine.announce)
    finally:
        stopped.cancel()
        orphaned.cancel()
    if why is not None:
        logger.error("front end %d stopped: %s", os.getpid(), why)
    return 0 if why is None else 1


def identity_of(pid: int) -> bytes:
    """What the hub calls the front end of this process id."""
    return b"front-end-%d" % pid


async def _end_with(parent_pid: int, metrics_folder: Path) -> None:
    """End at once when the parent is gone: there is no engine without it."""
    while os.getppid() == parent_pid:
        await asyncio.sleep(PARENT_POLL_S)
    logger.critical("the process that keeps the engine is gone; front end %d ends", os.getpid())
    shutil.rmtree(metrics_folder, ignore_errors=True)  # the parent cannot
    os._exit(1)
