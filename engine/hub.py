"""One engine for several front ends: to each of them the hub speaks as the engine would.

It stands in the process that owns the engine, and what it has to do for a step is little: find
whose deltas are whose. What an engine's death means stays between the keeper and the hub: front
ends see a pause.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from .errors import BadRequestError, EngineDeadError, OctavoError
from .keeper import EngineKeeper
from .messages import (
    AbortOpen,
    Alive,
    Cancel,
    EngineStatus,
    FromEngine,
    GetBlock,
    GetFrame,
    GetStats,
    Hello,
    NoAnswer,
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
WATCH_INTERVAL_S = 0.05
ANSWER_TIMEOUT_S = 10.0
ABORT_TIMEOUT_S = 3.0


class EngineHub:
    """Serves front ends at a ZeroMQ address with the keeper's engine, which it starts and stops."""

    def __init__(self, keeper: EngineKeeper, address: str) -> None:
        self._keeper = keeper
        self._address = address
        self._owners = Owners()
        self._admitted: set[bytes] = set()
        self._unread: dict[bytes, int] = {}  # statuses that a front end has not read yet
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._end: str | None = None
        self._tickets = itertools.count(1)
        self._aborts: dict[int, tuple[bytes, asyncio.Future[int]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)

    async def start(
        self, on_end: Callable[[str], None], on_serving: Callable[[bytes], None]
    ) -> None:
        """Listen, and let the engine load.

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

    async def wait_ready(self) -> dict[str, float]:
        """Wait until every front end knows that the model is loaded.

        Returns start-up seconds by phase; raises EngineDeadError.
        """
        phases = await self._keeper.wait_ready()
        self._tell()
        while any(self._unread.values()):
            await asyncio.sleep(WATCH_INTERVAL_S)
        return phases

    async def stop(self) -> None:
        """End the engine, and listen no more."""
        await self._keeper.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        self._context.term()

    def admit(self, front_end: bytes) -> None:
        """A front end was started: listen to it. What others send is not read."""
        self._admitted.add(front_end)

    def drop(self, front_end: bytes) -> None:
        """A front end is gone, and nobody waits for its sequences."""
        self._admitted.discard(front_end)
        self._unread.pop(front_end, None)
        for asked, waiter in self._aborts.values():
            if asked == front_end and not waiter.done():
                waiter.set_result(0)
        left = self._owners.remove_owner(front_end)
        self._keeper.cancel(left)
        if left:
            logger.warning("%d choices were lost with their front end", len(left))

    def silent_s(self, front_end: bytes) -> float:
        """For how long it has not read what it was told, while the hub itself ran."""
        return self._unread.get(front_end, 0) * STATUS_INTERVAL_S

    def _cancel(self, request_ids: list[str]) -> None:
        self._keeper.cancel(request_ids)
        for request_id in request_ids:
            self._owners.remove(request_id)

    async def _receive(self) -> None:
        while True:
            parts = await self._socket.recv_multipart()
            if len(parts) != 2 or parts[0] not in self._admitted:
                logger.error("dropped a message of nobody, or that is not (sender, payload)")
                continue
            sender, payload = parts
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
                self._unread[sender] = 1
                self._send(sender, self._status())
            case Alive():
                self._unread[sender] -= 1
            case Serving():
                self._tell_serving(sender)
            case NumAborted():
                _, waiter = self._aborts.get(message.ticket, (b"", None))
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
        except EngineDeadError as error:
            self._send(sender, NoAnswer(error.message, question.ticket))
            return
        self._send(sender, msgspec.structs.replace(answer, ticket=question.ticket))

    async def _abort(self, sender: bytes, wanted: AbortOpen) -> None:
        """Let all other front ends end these requests."""
        tickets = {}
        for front_end in self._unread.keys() - {sender}:
            ticket = next(self._tickets)
            tickets[ticket] = asyncio.get_running_loop().create_future()
            self._aborts[ticket] = (front_end, tickets[ticket])
            self._send(front_end, msgspec.structs.replace(wanted, ticket=ticket))
        try:
            counts = await asyncio.wait_for(asyncio.gather(*tickets.values()), ABORT_TIMEOUT_S)
        except asyncio.TimeoutError:
            reason = "a front end does not answer: not all of its requests may have been aborted"
            logger.error("%s", reason)
            self._send(sender, NoAnswer(reason, wanted.ticket))
        else:
            self._send(sender, NumAborted(sum(counts), wanted.ticket))
        finally:
            for ticket in tickets:
                del self._aborts[ticket]

    def _on_step(self, result: StepResult) -> None:
        for owner, share in self._owners.shares(result):
            self._send(owner, share)

    def _on_end(self, reason: str) -> None:
        if self._end is not None:
            return
        self._end = reason
        self._tell()
        self._tell_end(reason)

    async def _tell_status(self) -> None:
        """Now and then, and at once what decides whether requests are taken."""
        told_at, told = 0.0, None
        while True:
            status = self._keeper.status
            decisive = (status.is_ready, status.takes_requests)
            if decisive != told or time.monotonic() - told_at >= STATUS_INTERVAL_S:
                told_at, told = time.monotonic(), decisive
                self._tell()
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _tell(self) -> None:
        for front_end in self._unread:
            self._unread[front_end] += 1
        self._broadcast(self._status())

    def _status(self) -> EngineStatus:
        return msgspec.structs.replace(self._keeper.status, end=self._end)

    def _broadcast(self, message: FromEngine) -> None:
        for front_end in self._unread:
            self._send(front_end, message)

    def _send(self, receiver: bytes, message: FromEngine) -> None:
        self._socket.send_multipart([receiver, self._encoder.encode(message)])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end_of)

    def _note_end_of(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the hub failed", exc_info=error)
            self._on_end(f"the hub failed: {error}")
