"""An engine process as its owner sees it: started, spoken to, watched, started again."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq.asyncio

from .channel import EngineChannel
from .errors import EngineDeadError
from .flight_recorder import FlightRecorder
from .launch import EngineProcess
from .messages import (
    Answer,
    Asking,
    Cancel,
    Failed,
    FromEngine,
    Hello,
    Ready,
    Shutdown,
    StepResult,
    Submit,
)
from .plan import EngineConfig

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 3.0
LAST_WORDS_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Death:
    """How an engine process ended. `was_killed`: from outside, as the kernel does for memory."""

    reason: str
    was_ready: bool
    was_killed: bool


class EngineClient:
    """One engine process, which the running event loop now owns.

    `on_step` is called with every StepResult; `on_death` when the process ends without having been
    told to. `restart` starts another one.
    """

    def __init__(
        self,
        process: EngineProcess,
        config: EngineConfig,
        on_step: Callable[[StepResult], None],
        on_death: Callable[[Death], None],
    ) -> None:
        self._process = process
        self._config = config
        self._on_step = on_step
        self._on_death = on_death
        self._failure: str | None = None
        self._failure_told = asyncio.Event()
        self._killed_for: str | None = None
        self._stopping = False
        self._context: zmq.asyncio.Context | None = None
        self._channel: EngineChannel | None = None
        self._watching: asyncio.Task[None] | None = None
        self.ready: asyncio.Future[dict[str, float]] | None = None
        self._configured_at = 0.0
        self.first_start_s = 0.0  # in which the first process loaded the model
        self.num_blocks = config.num_blocks - 1  # an estimate on a GPU, until it is loaded

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and the process alive."""
        return self.is_alive and self.is_loaded

    @property
    def is_loaded(self) -> bool:
        """Whether the process once said that its model is loaded."""
        ready = self.ready
        return (
            ready is not None
            and ready.done()
            and not ready.cancelled()
            and ready.exception() is None
        )

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive

    @property
    def resident_bytes(self) -> int:
        """Memory that the process occupies; 0 if it is gone."""
        return self._process.resident_bytes

    async def start(self) -> None:
        """Let the process load the model and return at once; await `ready` for it."""
        self._context = zmq.asyncio.Context()
        self._open()

    async def restart(self, timeout_s: float) -> None:
        """Start another process and wait until it has loaded the model.

        What the former one sent and nobody has read is dropped. Raises EngineDeadError if it does
        not come up in time; then it is killed.
        """
        try:
            await asyncio.wait_for(self._start_again(), timeout_s)
        except asyncio.TimeoutError:
            reason = f"it has not loaded the model in {timeout_s:.0f} s"
            self.kill(reason)
            raise EngineDeadError(reason) from None

    async def _start_again(self) -> None:
        await self._close()
        await self._process.restart()
        self._open()
        assert self.ready is not None
        await self.ready

    def kill(self, reason: str) -> None:
        """End the process by force; `reason` is what `on_death` is told."""
        self._killed_for = reason
        self._process.kill()

    @property
    def tried_ids(self) -> set[str]:
        """The sequences that were on trial in the last step, whatever became of it."""
        return FlightRecorder.read(self._process.record_path)

    def _open(self) -> None:
        assert self._context is not None
        self.ready = asyncio.get_running_loop().create_future()
        self._failure, self._killed_for = None, None
        self._failure_told.clear()
        self._process.configure(msgspec.json.encode(self._config))
        self._configured_at = time.monotonic()
        self._channel = EngineChannel(self._context, self._process.address, self._take)
        self._channel.send(Hello())
        self._watching = asyncio.create_task(self._watch(), name="engine-watch")

    def submit(self, sequences: list[Submit]) -> None:
        """Hand sequences to the engine. Raises EngineDeadError if it is not there."""
        if not self.is_ready or self._channel is None:
            raise EngineDeadError("the engine is not running")
        for sequence in sequences:
            self._channel.send(sequence)

    def cancel(self, request_ids: list[str]) -> None:
        """Stop sequences within one step; without an engine there is nothing to stop."""
        if request_ids and self.is_alive and self._channel is not None:
            self._channel.send(Cancel(request_ids))

    async def ask(self, asking: Asking, timeout_s: float) -> Answer:
        """The answer, after the present step. Raises EngineDeadError without one in time."""
        if not self.is_ready or self._channel is None:
            raise EngineDeadError("the engine is not running")
        return await self._channel.ask(asking, timeout_s)

    async def stop(self) -> None:
        """End the process (by force after a while) and give sockets and files back."""
        self._stopping = True
        # One that loads does not read messages; there is nothing of it to be ended well.
        if self.is_ready and self._channel is not None:
            self._channel.send(Shutdown())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), SHUTDOWN_TIMEOUT_S)
        self._process.discard()
        await self._close()
        if self._context is not None:
            self._context.term()

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        if self.ready is not None and not self.ready.done():
            self.ready.cancel()

    def _take(self, message: FromEngine) -> None:
        match message:
            case StepResult():
                self._on_step(message)
            case Ready():
                if self.ready is not None and not self.ready.done():
                    total = round(time.monotonic() - self._process.started_at, 3)
                    self.num_blocks = message.num_blocks
                    took_s = time.monotonic() - self._configured_at
                    self.first_start_s = self.first_start_s or took_s
                    self.ready.set_result({**message.phases, "total": total})
            case Failed():
                self._failure = message.message
                self._failure_told.set()

    async def _watch(self) -> None:
        code = await self._process.wait()
        if self._stopping:
            return
        if not self.is_loaded:  # its last words may still be on their way
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._failure_told.wait(), LAST_WORDS_TIMEOUT_S)
        reason = self._killed_for or self._failure
        reason = reason or f"the engine process ended with {_describe_exit(code)}"
        was_ready = self.is_loaded
        if self.ready is not None and not self.ready.done():
            self.ready.set_exception(EngineDeadError(reason))
        if self._channel is not None:
            self._channel.fail(reason)
        was_killed = -code == signal.SIGKILL and self._killed_for is None
        self._on_death(Death(reason, was_ready=was_ready, was_killed=was_killed))


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = " (out of memory?)" if -code == 9 else ""
    return f"signal {-code}{hint}"
