"""The front end's side of the process boundary: starts the engine process and talks to it."""

import asyncio
import contextlib
import itertools
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq
import zmq.asyncio

from .errors import EngineDeadError
from .flight_recorder import FlightRecorder
from .launch import EngineProcess
from .messages import (
    Answer,
    BlockDetail,
    Cancel,
    EngineStats,
    Failed,
    Frame,
    FromEngine,
    GetBlock,
    GetFrame,
    GetStats,
    Hello,
    PrefixCacheReset,
    Question,
    Ready,
    ResetPrefixCache,
    Shutdown,
    StepResult,
    Submit,
    ToEngine,
)
from .plan import EngineConfig

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 3.0
LAST_WORDS_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Death:
    """How an engine process ended. `was_killed`: from outside, as the kernel does for memory."""

    reason: str
    was_ready: bool
    was_killed: bool


class EngineClient:
    """One engine process, seen from the front end's event loop, which now owns it.

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
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(FromEngine)
        self._tickets = itertools.count(1)
        self._waiters: dict[int, asyncio.Future[Answer]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: str | None = None
        self._failure_told = asyncio.Event()
        self._killed_for: str | None = None
        self._stopping = False
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self.ready: asyncio.Future[dict[str, float]] | None = None
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

    async def restart(self) -> None:
        """Start another process and wait until it has loaded the model.

        What the former one sent and nobody has read is dropped. Raises EngineDeadError if it does
        not come up.
        """
        await self._close()
        await self._process.restart()
        self._open()
        assert self.ready is not None
        await asyncio.shield(self.ready)

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
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Open requests bound what can queue here, and nothing of it may be lost.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(self._process.address)
        self._send(Hello())
        self._tasks = [
            asyncio.create_task(self._receive(), name="engine-receive"),
            asyncio.create_task(self._watch(), name="engine-watch"),
        ]

    def submit(self, sequences: list[Submit]) -> None:
        """Hand sequences to the engine. Raises EngineDeadError if it is not there."""
        if not self.is_ready:
            raise EngineDeadError("the engine is not running")
        for sequence in sequences:
            self._send(sequence)

    def cancel(self, request_ids: list[str]) -> None:
        """Stop sequences within one step; without an engine there is nothing to stop."""
        if request_ids and self.is_alive:
            self._send(Cancel(request_ids))

    async def stats(self, timeout_s: float = ANSWER_TIMEOUT_S) -> EngineStats:
        """The engine's state after its present step. Raises EngineDeadError without an answer."""
        answer = await self._ask(GetStats, timeout_s)
        assert isinstance(answer, EngineStats)
        return answer

    async def reset_prefix_cache(self) -> int:
        """Forget all cached prefixes; how many blocks had some. Raises EngineDeadError."""
        answer = await self._ask(ResetPrefixCache)
        assert isinstance(answer, PrefixCacheReset)
        return answer.num_blocks

    async def frame(self, since: int) -> Frame:
        """What changed since that version of a frame, after the present step.

        Raises EngineDeadError without an answer.
        """
        answer = await self._ask(lambda ticket: GetFrame(since, ticket))
        assert isinstance(answer, Frame)
        return answer

    async def block(self, block_id: int, *, with_tokens: bool) -> BlockDetail:
        """Who holds a block, after the present step. Raises EngineDeadError without an answer."""
        answer = await self._ask(lambda ticket: GetBlock(block_id, with_tokens, ticket))
        assert isinstance(answer, BlockDetail)
        return answer

    async def _ask(
        self, question: Callable[[int], Question], timeout_s: float = ANSWER_TIMEOUT_S
    ) -> Answer:
        if not self.is_ready:
            raise EngineDeadError("the engine is not running")
        ticket = next(self._tickets)
        waiter = self._waiters[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._send(question(ticket))
            return await asyncio.wait_for(waiter, timeout_s)
        except asyncio.TimeoutError:
            raise EngineDeadError(f"no answer from the engine in {timeout_s:g} s") from None
        finally:
            del self._waiters[ticket]

    async def stop(self) -> None:
        """End the process (by force after a while) and give sockets and files back."""
        self._stopping = True
        # One that loads does not read messages; there is nothing of it to be ended well.
        if self.is_ready and self._socket is not None:
            self._send(Shutdown())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), SHUTDOWN_TIMEOUT_S)
        self._process.discard()
        await self._close()
        if self._context is not None:
            self._context.term()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        if self.ready is not None and not self.ready.done():
            self.ready.cancel()

    def _send(self, message: ToEngine) -> None:
        assert self._socket is not None
        # The asyncio socket queues what cannot be sent at once; it never blocks the loop.
        self._socket.send(self._encoder.encode(message))

    async def _receive(self) -> None:
        assert self._socket is not None
        while True:
            payload = await self._socket.recv()
            try:
                message = self._decoder.decode(payload)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                logger.exception("dropped a malformed message of %d bytes", len(payload))
                continue
            match message:
                case StepResult():
                    try:
                        self._on_step(message)
                    except Exception:
                        logger.exception("delivering a step failed")
                case EngineStats() | PrefixCacheReset() | Frame() | BlockDetail():
                    waiter = self._waiters.get(message.ticket)
                    if waiter is not None and not waiter.done():
                        waiter.set_result(message)
                case Ready():
                    if self.ready is not None and not self.ready.done():
                        total = round(time.monotonic() - self._process.started_at, 3)
                        self.num_blocks = message.num_blocks
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
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(EngineDeadError(reason))
        was_killed = -code == signal.SIGKILL and self._killed_for is None
        self._on_death(Death(reason, was_ready=was_ready, was_killed=was_killed))


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = " (out of memory?)" if -code == 9 else ""
    return f"signal {-code}{hint}"
