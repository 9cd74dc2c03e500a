"""Messages to and from an engine, or what stands for one, over a ZeroMQ socket."""

import asyncio
import itertools
import logging
from collections.abc import Callable

import msgspec
import zmq
import zmq.asyncio

from .errors import EngineDeadError
from .messages import Answer, Asking, FromEngine, NoAnswer, ToEngine

logger = logging.getLogger(__name__)


class EngineChannel:
    """One connection; it belongs to the running event loop.

    `take` is called with every message that answers no question.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        address: str,
        take: Callable[[FromEngine], None],
        identity: bytes | None = None,
    ) -> None:
        self._take = take
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(FromEngine)
        self._tickets = itertools.count(1)
        self._waiters: dict[int, asyncio.Future[Answer]] = {}
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Open requests bound what can queue here, and nothing of it may be lost.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        if identity is not None:
            self._socket.setsockopt(zmq.IDENTITY, identity)
        self._socket.connect(address)
        self._receiving = asyncio.create_task(self._receive(), name="engine-receive")

    def send(self, message: ToEngine) -> None:
        """Hand a message on. It never blocks: what cannot be sent at once is queued."""
        self._socket.send(self._encoder.encode(message))

    async def ask(self, asking: Asking, timeout_s: float) -> Answer:
        """The answer to a question. Raises EngineDeadError without one in time."""
        ticket = next(self._tickets)
        waiter = self._waiters[ticket] = asyncio.get_running_loop().create_future()
        try:
            self.send(asking(ticket))
            return await asyncio.wait_for(waiter, timeout_s)
        except asyncio.TimeoutError:
            raise EngineDeadError(f"no answer from the engine in {timeout_s:g} s") from None
        finally:
            del self._waiters[ticket]

    def fail(self, reason: str) -> None:
        """There will be no answers: whoever waits for one gets an EngineDeadError."""
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(EngineDeadError(reason))

    async def close(self) -> None:
        """Receive no more."""
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        self._socket.close()

    def _answer(self, message: Answer | NoAnswer) -> None:
        waiter = self._waiters.get(message.ticket)
        if waiter is None or waiter.done():  # nobody waits any more
            return
        if isinstance(message, NoAnswer):
            waiter.set_exception(EngineDeadError(message.reason))
        else:
            waiter.set_result(message)

    async def _receive(self) -> None:
        while True:
            payload = await self._socket.recv()
            try:
                message = self._decoder.decode(payload)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                logger.exception("dropped a malformed message of %d bytes", len(payload))
                continue
            if isinstance(message, Answer | NoAnswer):
                self._answer(message)
                continue
            try:
                self._take(message)
            except Exception:
                logger.exception("taking a message of the engine failed")
