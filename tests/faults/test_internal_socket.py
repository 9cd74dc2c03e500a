"""Malformed frames on the socket between front end and engine: they are dropped, streams go on."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio

from octavo.engine.messages import (
    Cancel,
    GetBlock,
    GetFrame,
    GetStats,
    Hello,
    ResetPrefixCache,
    Submit,
)
from octavo.engine.sampling_params import SamplingParams

from ..conftest import StartServer
from ..fuzz.broken_files import break_file
from .drill_result import DrillResult
from .engine_faults import Streams, engine_pid

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "512")
NUM_STREAMS = 8
ANSWER_DEADLINE_S = 60.0
MESSAGES = (
    Hello(),
    Submit("foreign", [1, 2, 3, 4], SamplingParams(max_tokens=4), 4, 7),
    Cancel(["a", "b"]),
    GetStats(3),
    GetFrame(0, 4),
    GetBlock(1, True, 5),
    ResetPrefixCache(6),
)
# Well formed, but what no front end of ours would send.
WILD = (
    Submit("wild", [], SamplingParams(max_tokens=4), 4, 7),
    Submit("wild", [1] * 10_000, SamplingParams(max_tokens=4), 4, 7),
    Submit("wild", [1, 2], SamplingParams(max_tokens=4), -3, -7, eos_token_ids=(-5, 10**6)),
    Submit("wild", [1, 10**9], SamplingParams(max_tokens=4), 4, 7),
    Submit("wild", [1, -1], SamplingParams(max_tokens=4), 4, 7),
    Submit("wild", [1, 2], SamplingParams(logit_bias={-1: 1.0, 10**9: 1.0}), 4, 7),
    Submit("wild", [1, 2], SamplingParams(logprobs=-1, prompt_logprobs=10**9), 4, 7),
    Submit("wild", [1, 2], SamplingParams(max_tokens=4), 4, 7, output_token_ids=[1] * 4),
    GetBlock(10**9, True, 8),
    GetBlock(-1, True, 9),
    GetFrame(-1, 10),
    Cancel(["wild"]),
)
# Values that the parameters themselves refuse, which is no error of the decoder's own.
SOUND = msgspec.to_builtins(Submit("wild", [1], SamplingParams(max_tokens=4), 4, 7))
REFUSED = msgspec.msgpack.encode(SOUND | {"params": SOUND["params"] | {"temperature": -1.0}})
# Nested more deeply than the decoder goes, in a field that no message has.
TOO_DEEP = b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 5000 + b"\x01"


def frames(count: int, seed: int) -> Iterator[list[bytes]]:
    """Multipart messages of which few or none are sound."""
    rng = random.Random(seed)
    encoded = [msgspec.msgpack.encode(message) for message in MESSAGES]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.7:
            yield [break_file(rng.choice(encoded), rng)]
        elif kind < 0.85:
            yield [rng.randbytes(rng.choice((0, 1, 3, 40, 5000)))]
        elif kind < 0.95:
            yield [rng.randbytes(3) for _ in range(rng.randint(2, 4))]
        elif kind < 0.99:
            yield [msgspec.msgpack.encode(rng.choice(WILD))]
        else:
            yield [rng.choice((TOO_DEEP, REFUSED))]


def address_of(server: Any) -> str:
    """Where the engine of this server listens."""
    words = Path(f"/proc/{engine_pid(server)}/cmdline").read_bytes().split(b"\0")
    return words[words.index(b"octavo.engine.process") + 1].decode()


def bodies_of(seed: int) -> list[dict[str, Any]]:
    """Streams long enough to be under way while the frames come."""
    return [
        {"prompt": f"Stream {i}", "max_tokens": 300, "ignore_eos": True, "seed": seed + i}
        for i in range(NUM_STREAMS)
    ]


def drill(count: int, seed: int, start_server: StartServer) -> DrillResult:
    """So many frames while streams run, whose texts are compared with those of a quiet run."""
    survived = 0
    with start_server(*FLAGS) as server:
        quiet = Streams(server.url, bodies_of(seed))
        quiet.run()

        async def disturb(_: Streams) -> None:
            nonlocal survived
            context = zmq.asyncio.Context()
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address_of(server))
            try:
                for number, parts in enumerate(frames(count, seed)):
                    await socket.send_multipart(parts)
                    if number % 50 == 49 or number == count - 1:
                        await _answer(socket, 10_000 + number)
                        survived = number + 1
            finally:
                socket.close()
                context.term()

        streams = Streams(server.url, bodies_of(seed))
        streams.run(disturb)
        lost = [i for i in range(NUM_STREAMS) if streams.texts[i] != quiet.texts[i]]
        server.wait_idle()
        restarts = int(server.gauge("octavo_engine_restarts_total"))
        blocks = int(server.gauge("octavo_kv_blocks_used"))
    return DrillResult(
        name="malformed frames on the internal socket",
        tried=count,
        survived=survived if restarts == 0 else 0,
        requests_lost=len(lost),
        blocks_leaked=blocks,
        seeds=(seed,) if lost or restarts else (),
        note=f"{NUM_STREAMS} streams meanwhile, texts equal to an undisturbed run's; "
        f"the engine was restarted {restarts} times",
    )


async def _answer(socket: Any, ticket: int) -> None:
    """The engine answers a sound question after all that came before it."""
    await socket.send(msgspec.msgpack.encode(GetStats(ticket)))

    async def wait() -> None:
        while True:
            answer = msgspec.msgpack.decode((await socket.recv_multipart())[-1])
            if answer.get("type") == "stats" and answer.get("ticket") == ticket:
                return

    await asyncio.wait_for(wait(), ANSWER_DEADLINE_S)


@pytest.mark.parametrize("seed", [1, 2])
def test_malformed_frames_are_dropped(seed: int, start_tiny: StartServer) -> None:
    result = drill(300, seed, start_tiny)
    assert result.is_passed, result


@pytest.mark.parametrize("frame", [TOO_DEEP, REFUSED], ids=["too deep", "refused"])
def test_a_frame_that_decodes_to_an_error_is_dropped(frame: bytes, start_tiny: StartServer) -> None:
    with start_tiny(*FLAGS) as server, zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address_of(server))
        socket.send(frame)
        socket.send(msgspec.msgpack.encode(GetStats(1)))
        assert socket.poll(int(ANSWER_DEADLINE_S * 1e3))
        socket.close()
        assert server.gauge("octavo_engine_restarts_total") == 0
