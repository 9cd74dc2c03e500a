"""An engine that several front ends share, as one of them sees it: through the hub."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import zmq.asyncio

from .channel import EngineChannel
from .engine_link import AbortHere
from .errors import EngineDeadError
from .messages import (
    AbortOpen,
    Alive,
    Answer,
    Asking,
    Cancel,
    EngineStatus,
    FromEngine,
    Hello,
    NumAborted,
    Serving,
    StepResult,
    Submit,
)

ABORT_TIMEOUT_S = 10.0
SILENCE_S = 3.0  # of a hub that tells its status several times a second
_UNKNOWN = EngineStatus(
    is_ready=False,
    takes_requests=False,
    num_restarts=0,
    num_open=0,
    num_blocks=0,
    last_step_age_s=0.0,
    resident_bytes=0,
    startup_seconds={},
)


class SharedEngine:
    """An `EngineLink` to the hub at a ZeroMQ address, which knows this front end by `identity`."""

    def __init__(self, address: str, identity: bytes) -> None:
        self._address = address
        self._identity = identity
        self._status = _UNKNOWN
        self._told_at = time.monotonic()
        self._has_begun = asyncio.Event()  # to be ready, or to be of no use any more
        self._context = zmq.asyncio.Context()
        self._channel: EngineChannel
        self._on_step: Callable[[StepResult], None]
        self._on_end: Callable[[str], None]
        self._abort_here: AbortHere

    @property
    def status(self) -> EngineStatus:
        """How the engine is, as far as the hub has told."""
        told, silent_s = self._status, time.monotonic() - self._told_at
        age_s = told.last_step_age_s + silent_s if told.num_open else 0.0
        is_ready = told.is_ready and silent_s < SILENCE_S
        return msgspec.structs.replace(told, is_ready=is_ready, last_step_age_s=age_s)

    @property
    def takes_requests(self) -> bool:
        """Whether sequences can be handed over: while a lost engine is replaced they wait."""
        return self._status.takes_requests

    async def start(
        self,
        on_step: Callable[[StepResult], None],
        on_end: Callable[[str], None],
        abort_here: AbortHere,
    ) -> None:
        """Connect, and return before the engine is ready."""
        self._on_step, self._on_end, self._abort_here = on_step, on_end, abort_here
        self._channel = EngineChannel(self._context, self._address, self._take, self._identity)
        self._channel.send(Hello())

    def announce(self) -> None:
        """Tell the hub that this front end takes requests."""
        self._channel.send(Serving())

    async def wait_ready(self) -> dict[str, float]:
        """Wait for the model. Returns start-up seconds by phase; raises EngineDeadError."""
        await self._has_begun.wait()
        if self._status.end is not None:
            raise EngineDeadError(self._status.end)
        return self._status.startup_seconds

    async def stop(self) -> None:
        """Let go of the engine; whoever started this front end tells the hub of its end."""
        await self._channel.close()
        self._context.term()

    def check(self, submits: list[Submit]) -> None:
        """The hub checks what is submitted."""

    def submit(self, submits: list[Submit]) -> None:
        """Hand sequences over. What comes of them, comes to `on_step`, and their end too."""
        for submit in submits:
            self._channel.send(submit)

    def cancel(self, request_ids: list[str]) -> None:
        """Stop sequences within one step; nothing comes of them any more."""
        if request_ids:
            self._channel.send(Cancel(request_ids))

    async def ask(self, asking: Asking, timeout_s: float) -> Answer:
        """The answer, after the present step. Raises EngineDeadError without one in time."""
        if not self.status.is_ready:
            raise EngineDeadError("the engine is not running")
        return await self._channel.ask(asking, timeout_s)

    async def abort_elsewhere(self, public_ids: tuple[str, ...] | None, reason: str) -> int:
        """End requests that came in by other front ends. Returns how many choices."""
        answer = await self._channel.ask(  # the hub answers, whether there is an engine or not
            lambda ticket: AbortOpen(public_ids, reason, ticket), ABORT_TIMEOUT_S
        )
        assert isinstance(answer, NumAborted)
        return answer.num_choices

    def _take(self, message: FromEngine) -> None:
        match message:
            case StepResult():
                self._on_step(message)
            case EngineStatus():
                had_ended = self._status.end is not None
                self._status, self._told_at = message, time.monotonic()
                self._channel.send(Alive())
                if message.is_ready or message.end is not None:
                    self._has_begun.set()
                if message.end is not None and not had_ended:
                    self._on_end(message.end)
            case AbortOpen():
                num_choices = self._abort_here(message.public_ids, message.reason)
                self._channel.send(NumAborted(num_choices, message.ticket))
