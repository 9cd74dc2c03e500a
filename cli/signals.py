"""The signals that end the server: the first one asks, the second one ends."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

logger = logging.getLogger("octavo")

SAME_SIGNAL_S = 0.1  # `timeout` and terminals may deliver one wish twice: to us and to our group


def leave_at_signals() -> None:
    """Until `StopSignals` takes over, SIGINT and SIGTERM end the program with code 0.

    By an exception, so that what there is already is given back.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


class StopSignals:
    """Takes SIGINT and SIGTERM from now on. Make it inside the running event loop.

    `discard` gives back what must not outlive us, when a second signal ends us at once.
    """

    def __init__(self, discard: Callable[[], None]) -> None:
        self._discard = discard
        self._first = asyncio.Event()
        self._first_at = 0.0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._take, number)

    async def wait(self) -> None:
        """Return once the first signal has come."""
        await self._first.wait()

    def _take(self, number: signal.Signals) -> None:
        now = time.monotonic()
        if not self._first.is_set():
            logger.info("%s: the server drains; another one ends it at once", number.name)
            self._first_at = now
            self._first.set()
        elif now - self._first_at > SAME_SIGNAL_S:
            logger.warning("%s again: ended at once", number.name)
            try:
                self._discard()
            finally:
                os._exit(128 + number)
