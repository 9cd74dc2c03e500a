"""The front end's side of the dashboard: follows the engine's frames for any number of viewers."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..paged_cache import CellLog, cells_of_runs
from .errors import EngineDeadError
from .messages import Frame

logger = logging.getLogger(__name__)

FRAME_INTERVAL_S = 0.1
IDLE_INTERVAL_S = 0.25  # while nothing happens
TROUBLE_INTERVAL_S = 1.0


@dataclass(frozen=True)
class View:
    """What one viewer has not seen yet. `frame.runs` is what the feed last took in, not this."""

    frame: Frame
    is_full: bool
    runs: list[int]
    version: int


class LiveFeed:
    """Asks the engine for frames while somebody views, ten times a second at most.

    Each viewer catches up from where it is, so a slow one costs nothing and misses only what is
    over. `tell` is called whenever there is something new.
    """

    def __init__(
        self,
        fetch: Callable[[int], Awaitable[Frame]],
        tell: Callable[[], None],
    ) -> None:
        self._fetch = fetch
        self._tell = tell
        self._log = CellLog(0)
        self._frame: Frame | None = None
        self._num_viewers = 0
        self._task: asyncio.Task[None] | None = None
        self.number = 0  # grows with everything that is new
        self.trouble: str | None = None

    @property
    def num_viewers(self) -> int:
        """How many view."""
        return self._num_viewers

    def enter(self) -> None:
        """Somebody views from now on, until `leave`."""
        self._num_viewers += 1
        if self._task is None:
            self._frame = None  # what was known is old
            self.trouble = None
            self._task = asyncio.create_task(self._follow(), name="live-feed")

    def leave(self) -> None:
        """One viewer less."""
        self._num_viewers -= 1
        if self._num_viewers == 0 and self._task is not None:
            self._task.cancel()
            self._task = None

    def view(self, version: int | None) -> View | None:
        """What is new since a view's version (None: everything); None if nothing is known yet.

        An engine that came up anew may have another number of blocks: see `frame.num_blocks`.
        """
        if self._frame is None:
            return None
        log = self._log
        return View(self._frame, version is None, log.runs_since(version), log.version)

    async def _follow(self) -> None:
        while True:
            began = time.monotonic()
            try:
                interval_s = await self._take_frame()
            except EngineDeadError as error:
                self._complain(error.message)
                interval_s = TROUBLE_INTERVAL_S
            except Exception:
                logger.exception("a frame of the dashboard could not be read")
                self._complain("the server could not read the engine's state")
                interval_s = TROUBLE_INTERVAL_S
            await asyncio.sleep(max(0.0, began + interval_s - time.monotonic()))

    async def _take_frame(self) -> float:
        """Fetch a frame. Returns after how many seconds the next is due."""
        before = self._frame
        since = 0 if before is None or self.trouble is not None else before.version
        frame = await self._fetch(since)
        if frame.is_full and frame.num_blocks != len(self._log.cells):
            self._log = CellLog(frame.num_blocks)
        self._log.write(cells_of_runs(frame.runs, len(self._log.cells)))
        self._frame = frame
        was_in_trouble, self.trouble = self.trouble is not None, None
        is_busy = bool(frame.requests)
        if before is None or was_in_trouble or is_busy or before.requests or frame.runs:
            self._news()
        return FRAME_INTERVAL_S if is_busy else IDLE_INTERVAL_S

    def _complain(self, message: str) -> None:
        self.trouble = message
        self._news()

    def _news(self) -> None:
        self.number += 1
        self._tell()
