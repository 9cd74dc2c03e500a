"""The processes of several front ends: started, watched, started again, stopped together."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

from .front_end_process import Assignment, identity_of, main

logger = logging.getLogger("octavo")

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
MOST_FAILED_STARTS = 5  # of one place, in a row
STOP_MARGIN_S = 10.0  # beyond the drain's own time


class FrontEnds:
    """One process for each assignment.

    `on_gone` is called with the identity of each that has ended. `failed` is done, with the reason,
    when one of them cannot be kept running.
    """

    def __init__(self, assignments: list[Assignment], on_gone: Callable[[bytes], None]) -> None:
        self._assignments = assignments
        self._on_gone = on_gone
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
        self._keepers = [
            asyncio.create_task(self._keep(number)) for number in range(len(self._assignments))
        ]

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
        for keeper in self._keepers:
            keeper.result()

    def kill(self) -> None:
        """End all of them at once."""
        self.signal(signal.SIGKILL)

    async def _keep(self, number: int) -> None:
        num_failed, delay_s = 0, 0.0
        while not self._stopping.is_set():
            arguments = (self._assignments[number], os.getpid())
            process = self._context.Process(target=main, args=arguments)
            began = time.monotonic()
            process.start()
            self._places[number] = process
            assert process.pid is not None
            identity = identity_of(process.pid)
            await _ended(process)
            has_served = identity in self._serving
            self._serving.discard(identity)
            self._on_gone(identity)
            if self._stopping.is_set():
                return
            num_failed, delay_s = (0, 0.0) if has_served else (num_failed + 1, delay_s)
            is_first = not self.all_serving.done()
            if (is_first and not has_served) or num_failed >= MOST_FAILED_STARTS:
                if not self.failed.done():
                    self.failed.set_result(f"a front end did not come up ({_exit_of(process)})")
                return
            logger.error(
                "a front end ended with %s after %.1f s; another one is started",
                _exit_of(process),
                time.monotonic() - began,
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(LONGEST_DELAY_S, max(FIRST_DELAY_S, 2 * delay_s))


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
