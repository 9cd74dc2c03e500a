"""SIGHUP: files that may change while the server runs are read again."""

import asyncio
import logging
import signal
from collections.abc import Callable

logger = logging.getLogger("octavo")


class ReloadSignal:
    """Takes SIGHUP from now on, and calls at each one what was added; what is added later, then.

    Make it inside the running event loop, and only where there is something to read: without it a
    terminal that closes ends the server, as it ends other programs.
    """

    def __init__(self) -> None:
        self._reloads: list[Callable[[], object]] = []
        self._has_come = False
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._take)

    def add(self, reload: Callable[[], object]) -> None:
        """Call this too, and now if a signal has come already. It must not raise."""
        self._reloads.append(reload)
        if self._has_come:
            reload()

    def _take(self) -> None:
        self._has_come = True
        logger.info("SIGHUP: keys and certificate are read again")
        for reload in self._reloads:
            reload()
