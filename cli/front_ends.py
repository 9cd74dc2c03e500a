"""The processes of several front ends: started, watched, started again, stopped together."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess

from ..engine.hub import EngineHub
from .front_end_process import HELD_BACK, Assignment, identity_of, main

logger = logging.getLogger("octavo")

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
SOUND_LIFE_S = 30.0  # after which the next start need not wait
MOST_FAILED_STARTS = 5  # of one place in a row, while no other front end serves
STOP_MARGIN_S = 10.0  # beyond the drain's own time
WATCH_INTERVAL_S = 1.0
START_TIMEOUT_S = 120.0


class FrontEnds:
    """One process for each assignment; the hub is told of each that comes and goes.

    One that does not read for `silence_s` what the hub tells it is taken for hung. `failed` is
    done, with the reason, when there is no front end any more, or one did not come up at first.
    """

    def __init__(self, assignments: list[Assignment], hub: EngineHub, silence_s: float) -> None:
        self._assignments = assignments
        self._hub = hub
        self._silence_s = silence_s
        self._context = multiprocessing.get_context("spawn")  # forks do not go with our threads
        self._places: list[SpawnProcess | None] = [None] * len(assignments)
        self._serving: set[bytes] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[str] = loop.create_future()
        self.all_serving: asyncio.Future[None] = loop.create_future()

    def start(self) -> None:
        """Start all of them."""
        resource_tracker.ensure_running()  # it lets signals through again, which we hold back later
        self._keepers = [
            asyncio.create_task(self._keep(number)) for number in range(len(self._assignments))
        ]
        for keeper in self._keepers:
            keeper.add_done_callback(self._note_end_of)

    def note_serving(self, identity: bytes) -> None:
        """A front end takes requests."""
        self._serving.add(identity)
        if len(self._serving) == len(self._places) and not self.all_serving.done():
            self.all_serving.set_result(None)

    def signal(self, number: int) -> None:
        """Send all of them a signal."""
        for process in self._places:
            if process is not None and process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    async def stop(self, timeout_s: float) -> None:
        """Let all of them drain and end; by force those that take longer than `timeout_s`."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        _, left = await asyncio.wait(self._keepers, timeout=timeout_s + STOP_MARGIN_S)
        if left:
            logger.error("%d front ends did not end in time", len(left))
            self.kill()
            await asyncio.wait(left)

    def kill(self) -> None:
        """End all of them at once."""
        self.signal(signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        """Let there be a front end in this place, until all are stopped."""
        num_failed, delay_s = 0, 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            has_served, how = await self._run_one(number)
            if self._stopping.is_set():
                return
            life_s = time.monotonic() - began
            num_failed = 0 if has_served else num_failed + 1
            if has_served and life_s > SOUND_LIFE_S:
                delay_s = 0.0
            is_hopeless = num_failed >= MOST_FAILED_STARTS and not self._serving
            if not self.failed.done() and (
                is_hopeless or (not has_served and not self.all_serving.done())
            ):
                self.failed.set_result(f"a front end did not come up ({how})")
                return
            logger.error("a front end ended with %s after %.1f s; another follows", how, life_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(LONGEST_DELAY_S, max(FIRST_DELAY_S, 2 * delay_s))

    async def _run_one(self, number: int) -> tuple[bool, str]:
        """Start a front end, wait for its end. Returns whether it has served, and how it ended."""
        arguments = (self._assignments[number], os.getpid())
        process = self._context.Process(target=main, args=arguments)
        try:
            with _signals_held_back():
                process.start()
        except OSError as error:  # no process, or no file descriptor
            return False, str(error)
        self._places[number] = process
        assert process.pid is not None
        identity = identity_of(process.pid)
        self._hub.admit(identity)
        watching = asyncio.create_task(self._watch(process, identity))
        try:
            await _ended(process)
        finally:
            watching.cancel()
        has_served = identity in self._serving
        self._serving.discard(identity)
        self._hub.drop(identity)
        return has_served, _exit_of(process)

    async def _watch(self, process: SpawnProcess, identity: bytes) -> None:
        """End a front end that hangs, or does not come to serve."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            silent_s = self._hub.silent_s(identity)
            if identity not in self._serving and time.monotonic() - began > START_TIMEOUT_S:
                logger.error("a front end has not come up in %.0f s and is ended", START_TIMEOUT_S)
                process.kill()
                return
            if silent_s > self._silence_s:
                logger.error("a front end has not answered for %.0f s and is ended", silent_s)
                process.kill()
                return

    def _note_end_of(self, keeper: asyncio.Task[None]) -> None:
        if keeper.cancelled() or (error := keeper.exception()) is None:
            return
        logger.critical("a front end cannot be kept", exc_info=error)
        if not self.failed.done():
            self.failed.set_result(f"a front end cannot be kept: {error}")


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that is started inside gets none of these before it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _ended(process: SpawnProcess) -> None:
    """Wait for its end, without a thread."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


def _exit_of(process: SpawnProcess) -> str:
    code = process.exitcode
    return f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
