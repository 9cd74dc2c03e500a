"""One engine for several front ends: to each of them the hub speaks as the engine would.

It stands in the process that owns the engine, and what it has to do for a step is little: find
whose deltas are whose. What an engine's death means stays between the keeper and the hub: front
ends see a pause.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from .errors import BadRequestError, EngineDeadError, OctavoError
from .keeper import EngineKeeper
from .messages import (
    AbortOpen,
    Cancel,
    EngineStatus,
    FromEngine,
    GetBlock,
    GetFrame,
    GetStats,
    Hello,
    NumAborted,
    Question,
    ResetPrefixCache,
    SequenceDelta,
    Serving,
    StepResult,
    Submit,
    ToEngine,
)
from .owners import Owners, only_deltas

logger = logging.getLogger(__name__)

STATUS_INTERVAL_S = 0.2
ANSWER_TIMEOUT_S = 10.0
ABORT_TIMEOUT_S = 5.0


class EngineHub:
    """Serves front ends at a ZeroMQ address with the keeper's engine, which it starts and stops."""

    def __init__(self, keeper: EngineKeeper, address: str) -> None:
        self._keeper = keeper
        self._address = address
        self._owners = Owners()
        self._front_ends: set[bytes] = set()
        self._serving: set[bytes] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._end: str | None = None
        self._tickets = itertools.count(1)
        self._aborts: dict[int, asyncio.Future[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)

    async def start(
        self, on_end: Callable[[str], None], on_serving: Callable[[bytes], None]
    ) -> None:
        """Take front ends, and let the engine load.

        `on_end` is called when there will be no engine any more, `on_serving` with the identity of
        each front end that takes requests.
        """
        self._tell_end, self._tell_serving = on_end, on_serving
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # beyond its mark a ROUTER drops
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.bind(self._address)
        self._spawn(self._receive())
        self._spawn(self._tell_status())
        await self._keeper.start(self._on_step, self._on_end)

    async def stop(self) -> None:
        """End the engine, and listen no more."""
        await self._keeper.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        self._context.term()

    def drop(self, front_end: bytes) -> None:
        """A front end is gone, and nobody waits for its sequences."""
        self._front_ends.discard(front_end)
        self._serving.discard(front_end)
        left = self._owners.of_owner(front_end)
        self._cancel(left)
        if left:
            logger.warning("%d choices were lost with their front end", len(left))

    def _cancel(self, request_ids: list[str]) -> None:
        self._keeper.cancel(request_ids)
        for request_id in request_ids:
            self._owners.remove(request_id)

    async def _receive(self) -> None:
        while True:
            sender, payload = await self._socket.recv_multipart()
            try:
                message = self._decoder.decode(payload)
            except (msgspec.MsgspecError, OctavoError, ValueError, RecursionError):
                logger.exception("dropped a malformed message of %d bytes", len(payload))
                continue
            try:
                self._handle(sender, message)
            except Exception:
                logger.exception("a message of a front end could not be handled")

    def _handle(self, sender: bytes, message: ToEngine) -> None:
        match message:
            case Submit():
                self._submit(sender, message)
            case Cancel():
                self._cancel(message.request_ids)
            case Hello():
                self._front_ends.add(sender)
                self._send(sender, self._status())
            case Serving():
                self._serving.add(sender)
                self._tell_serving(sender)
            case NumAborted():
                waiter = self._aborts.get(message.ticket)
                if waiter is not None and not waiter.done():
                    waiter.set_result(message.num_choices)
            case AbortOpen():
                self._spawn(self._abort(sender, message))
            case GetStats() | ResetPrefixCache() | GetFrame() | GetBlock():
                self._spawn(self._answer(sender, message))

    def _submit(self, sender: bytes, submit: Submit) -> None:
        try:
            self._keeper.check([submit])
        except BadRequestError as error:
            refused = SequenceDelta(
                submit.request_id, finish_reason="error", error=error.message, is_own_fault=True
            )
            self._send(sender, only_deltas((refused,)))
            return
        self._owners.add(submit.request_id, sender)
        self._keeper.submit([submit])

    async def _answer(self, sender: bytes, question: Question) -> None:
        try:
            answer = await self._keeper.ask(
                lambda ticket: msgspec.structs.replace(question, ticket=ticket), ANSWER_TIMEOUT_S
            )
        except EngineDeadError:
            return  # who asked knows it too, or gives up by itself
        self._send(sender, msgspec.structs.replace(answer, ticket=question.ticket))

    async def _abort(self, sender: bytes, wanted: AbortOpen) -> None:
        """Let all other front ends end these requests; without all answers there is none."""
        waiters = {}
        for front_end in self._serving - {sender}:
            ticket = next(self._tickets)
            waiters[ticket] = asyncio.get_running_loop().create_future()
            self._aborts[ticket] = waiters[ticket]
            self._send(front_end, msgspec.structs.replace(wanted, ticket=ticket))
        try:
            counts = await asyncio.wait_for(asyncio.gather(*waiters.values()), ABORT_TIMEOUT_S)
        except asyncio.TimeoutError:
            logger.error("not all front ends have answered that they aborted what was to be")
            return
        finally:
            for ticket in waiters:
                del self._aborts[ticket]
        self._send(sender, NumAborted(sum(counts), wanted.ticket))

    def _on_step(self, result: StepResult) -> None:
        for owner, share in self._owners.shares(result):
            self._send(owner, share)

    def _on_end(self, reason: str) -> None:
        self._end = reason
        self._broadcast(self._status())
        self._tell_end(reason)

    async def _tell_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_INTERVAL_S)
            self._broadcast(self._status())

    def _status(self) -> EngineStatus:
        keeper = self._keeper
        return EngineStatus(
            is_ready=keeper.is_ready,
            takes_requests=keeper.takes_requests,
            num_restarts=keeper.num_restarts,
            num_open=keeper.num_open,
            num_blocks=keeper.num_blocks,
            last_step_age_s=keeper.last_step_age_s,
            resident_bytes=keeper.resident_bytes,
            startup_seconds=keeper.startup_seconds,
            end=self._end,
        )

    def _broadcast(self, message: FromEngine) -> None:
        for front_end in self._front_ends:
            self._send(front_end, message)

    def _send(self, receiver: bytes, message: FromEngine) -> None:
        self._socket.send_multipart([receiver, self._encoder.encode(message)])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
