"""Keeps an engine running: starts another process when one dies or hangs."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

import zmq

from .client import Death, EngineClient
from .errors import EngineDeadError

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.25
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
MOST_FAILED_STARTS = 5  # in a row
# What a replacement may take: so many first starts, and never less than so long.
START_PATIENCE = 4.0
SHORTEST_START_LIMIT_S = 120.0
LONGEST_DYING_S = 30.0  # of a killed process; one that a driver holds may never end


class Supervisor:
    """Watches one engine client, whose `on_death` it is.

    `stalled_s` tells for how long open work has waited for a step; beyond `timeout_s` the process
    is killed. `on_lost` is called when an engine that worked is gone, `on_back` when there is one
    again, `on_end` when there will be none: the first start failed, several in a row did, or a
    process that hangs does not die.
    """

    def __init__(
        self,
        timeout_s: float,
        stalled_s: Callable[[], float],
        on_lost: Callable[[Death], None],
        on_back: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._timeout_s = timeout_s
        self._stalled_s = stalled_s
        self._on_lost = on_lost
        self._on_back = on_back
        self._on_end = on_end
        self._client: EngineClient
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self.is_restarting = False
        self.num_restarts = 0

    def start(self, client: EngineClient) -> None:
        """Watch this client from now on."""
        self._client = client
        self._spawn(self._watch_steps())

    def stop(self) -> None:
        """Watch no longer."""
        for task in self._tasks:
            task.cancel()

    def note_progress(self) -> None:
        """The engine has computed something: the next restart need not wait."""
        self._delay_s = 0.0

    def note_death(self, death: Death) -> None:
        """The client's process is gone."""
        if self.is_restarting:
            return  # `_restart` hears of it
        if not death.was_ready:
            self._on_end(death.reason)
            return
        logger.error("the engine is gone: %s; another one is started", death.reason)
        self.is_restarting = True
        self._on_lost(death)
        self._spawn(self._restart())

    async def _restart(self) -> None:
        reason = ""
        for _ in range(MOST_FAILED_STARTS):
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(LONGEST_DELAY_S, max(FIRST_DELAY_S, 2 * self._delay_s))
            began = time.monotonic()
            limit_s = max(SHORTEST_START_LIMIT_S, START_PATIENCE * self._client.first_start_s)
            try:
                await self._client.restart(limit_s)
            except (EngineDeadError, OSError, zmq.ZMQError) as error:  # or no room for its files
                reason = str(error)
                logger.error("the engine did not come up: %s", reason)
                continue
            if not self._client.is_alive:  # `note_death` has left that to us
                reason = "it ended as soon as it was ready"
                logger.error("the engine did not come up: %s", reason)
                continue
            self.num_restarts += 1
            self.is_restarting = False
            logger.warning("the engine is back after %.1f s", time.monotonic() - began)
            self._on_back()
            return
        self.is_restarting = False
        self._on_end(f"the engine did not come up {MOST_FAILED_STARTS} times in a row: {reason}")

    async def _watch_steps(self) -> None:
        was_stalled = False
        while True:
            slept_from = time.monotonic()
            await asyncio.sleep(WATCH_INTERVAL_S)
            # Having been stopped ourselves, we have not read yet what the engine sent meanwhile.
            is_late = time.monotonic() - slept_from > 4 * WATCH_INTERVAL_S
            stalled_s = self._stalled_s() if self._client.is_ready and not is_late else 0.0
            is_stalled = stalled_s > self._timeout_s
            if is_stalled and was_stalled:
                await self._kill(f"no step has ended for {stalled_s:.0f} s (--engine-timeout)")
                is_stalled = False
            was_stalled = is_stalled

    async def _kill(self, reason: str) -> None:
        """End the process, or all if it does not die of it."""
        self._client.kill(reason)
        end = time.monotonic() + LONGEST_DYING_S
        while self._client.is_alive and not self.is_restarting:
            if time.monotonic() > end:
                self._on_end(f"{reason}, and the engine's process does not die")
                return
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
