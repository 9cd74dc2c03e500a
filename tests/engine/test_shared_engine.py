"""What a front end asks the hub for, whatever becomes of the engine."""

import asyncio
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from octavo.engine.messages import AbortOpen, FromEngine, NumAborted, ToEngine
from octavo.engine.shared_engine import SharedEngine


def test_requests_of_other_front_ends_are_aborted_while_there_is_no_engine(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/hub"

    async def answer(hub: "zmq.asyncio.Socket") -> None:
        """Speak the hub's part, and never of an engine."""
        while True:
            sender, payload = await hub.recv_multipart()
            message = msgspec.msgpack.decode(payload, type=ToEngine)
            if isinstance(message, AbortOpen):
                told: FromEngine = NumAborted(len(message.public_ids or ()), message.ticket)
                await hub.send_multipart([sender, msgspec.msgpack.encode(told)])

    async def abort() -> int:
        context = zmq.asyncio.Context()
        hub = context.socket(zmq.ROUTER)
        hub.bind(address)
        answering = asyncio.create_task(answer(hub))
        engine = SharedEngine(address, b"one")
        try:
            await engine.start(lambda result: None, lambda reason: None, lambda ids, reason: 0)
            assert not engine.status.is_ready
            return await engine.abort_elsewhere(("a", "b"), "admin")
        finally:
            await engine.stop()
            answering.cancel()
            hub.close(0)
            context.term()

    assert asyncio.run(asyncio.wait_for(abort(), 30.0)) == 2
