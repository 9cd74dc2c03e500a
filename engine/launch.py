"""Starting the engine's process, before it is known what it will compute.

Importing torch takes longer than anything else at start and needs no configuration, so the process
begins at once, and is told its configuration when the front end has planned it. Imports nothing
that takes time.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DISCARD_TIMEOUT_S = 5.0


class EngineProcess:
    """The engine's process and the private folder of its socket. Give both back with `discard`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="octavo-"))  # mode 0700: ours alone
        self.address = f"ipc://{self._folder}/engine.sock"
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "octavo.engine.process", self.address, str(os.getpid())],
            stdin=subprocess.PIPE,
        )

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def configure(self, config: bytes) -> None:
        """Tell it what to load: an EngineConfig as JSON. A process that is gone is not told."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(config)
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # `wait` will tell

    async def wait(self) -> int:
        """Its exit code once it has ended, negative for a signal's number."""
        return await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def discard(self) -> None:
        """End the process by force if it still runs, and remove its folder."""
        if self.is_alive:
            self._process.kill()
            self._process.wait(DISCARD_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)
