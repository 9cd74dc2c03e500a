"""Starting the engine's process, before it is known what it will compute.

Importing torch takes longer than anything else at start and needs no configuration, so the process
begins at once, and is told its configuration when the front end has planned it. Imports nothing
that takes time.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import ConfigurationError
from .flight_recorder import FlightRecorder

DISCARD_TIMEOUT_S = 5.0
LONGEST_FOLDER = 90  # bytes: with the socket's own name less than the 104 that macOS allows
# Turns in which an idle OpenMP thread looks for work before it sleeps: some 10 microseconds, enough
# between two layers. At the runtime's default of 300,000 it keeps cores from the front end, and
# where another process computes too, both crawl.
SPIN_COUNT = "3000"


class EngineProcess:
    """The engine's process and the private folder of its socket. Give both back with `discard`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="octavo-"))  # mode 0700: ours alone
        if len(os.fsencode(self._folder)) > LONGEST_FOLDER:
            self._folder.rmdir()
            raise ConfigurationError(
                f"the name of {self._folder.parent} is too long for sockets: set TMPDIR to another"
            )
        self.address = f"ipc://{self._folder}/engine.sock"
        self.hub_address = f"ipc://{self._folder}/hub.sock"
        self.record_path = self._folder / "flight"
        self._start()

    def _start(self) -> None:
        FlightRecorder.create(self.record_path)
        arguments = [self.address, str(os.getpid()), str(self.record_path)]
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "octavo.engine.process", *arguments],
            stdin=subprocess.PIPE,
            env=_environment(),
        )

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def resident_bytes(self) -> int:
        """Memory it occupies (RSS); 0 if it is gone, or where there is no /proc."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

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
        if self.is_alive:
            await _ended(self._process)
        return self._process.wait()

    def kill(self) -> None:
        """End the process by force if it still runs."""
        if self.is_alive:
            self._process.kill()

    async def restart(self) -> None:
        """Start another process in place of this one, at the same address; to be configured."""
        self.kill()
        await self.wait()
        self._start()

    def discard(self) -> None:
        """End the process by force if it still runs, and remove its folder."""
        if self.is_alive:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DISCARD_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)


async def _ended(process: "subprocess.Popen[bytes]") -> None:
    """Wait for its end: without a thread where there are pidfds, else on one of its own."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, an old one, or no descriptor is left
        threads = ThreadPoolExecutor(1, thread_name_prefix="engine-wait")
        waiting = loop.run_in_executor(threads, process.wait)
        threads.shutdown(wait=False)
        await waiting
        return
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _environment() -> dict[str, str]:
    """Ours, with a short spin unless the user decided upon one."""
    decided = os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    return dict(os.environ) if decided else {**os.environ, "GOMP_SPINCOUNT": SPIN_COUNT}
