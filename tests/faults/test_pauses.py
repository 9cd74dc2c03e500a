"""SIGSTOP and SIGCONT: a process that stands still for a while is waited for."""

import asyncio
import os
import random
import signal
from typing import Any

import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, engine_pid, until

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "2048")
TIMEOUT_S = 12
LONGEST_PAUSE_S = 5.0
MAX_TOKENS = 1500
EVENTS_A_PAUSE = 60


def bodies_of(num_streams: int, seed: int, max_tokens: int) -> list[dict[str, Any]]:
    """Seeded streams that go on for as long as the pauses come."""
    return [
        {"prompt": f"{seed}: {i}", "max_tokens": max_tokens, "ignore_eos": True, "seed": seed + i}
        for i in range(num_streams)
    ]


async def pause(pid: int, seconds: float) -> None:
    """Let a process stand still. The time is the fault, and not a wait for something."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def drill(pauses: int, streams: int, seed: int, start_server: StartServer) -> DrillResult:
    """Pauses of both processes at random moments, shorter than --engine-timeout.

    The streams are begun anew until there were so many pauses under them.
    """
    rng = random.Random(seed)
    done, rounds, lost = 0, 0, 0
    with start_server(*FLAGS, "--engine-timeout", str(TIMEOUT_S)) as server:
        quiet = Streams(server.url, bodies_of(streams, seed, MAX_TOKENS))
        quiet.run()

        async def disturb(running: Streams) -> None:
            nonlocal done
            while done < pauses:
                moment = running.num_tokens + rng.randrange(1, EVENTS_A_PAUSE)

                def is_due(moment: int = moment) -> bool:
                    return running.num_tokens >= moment or running.num_ended == streams

                await until(is_due)
                if running.num_ended == streams:
                    return
                engine = engine_pid(server)
                assert engine is not None
                target = engine if rng.random() < 0.7 else server.process.pid
                await pause(target, rng.choice((0.01, 0.1, 0.5, LONGEST_PAUSE_S)))
                done += 1

        while done < pauses and rounds < 10 * pauses:
            disturbed = Streams(server.url, bodies_of(streams, seed, MAX_TOKENS))
            disturbed.run(disturb)
            lost += sum(a != b for a, b in zip(disturbed.texts, quiet.texts, strict=True))
            rounds += 1
        server.wait_idle()
        restarts = int(server.gauge("octavo_engine_restarts_total"))
        blocks = int(server.gauge("octavo_kv_blocks_used"))
    return DrillResult(
        name="SIGSTOP and SIGCONT",
        tried=done,
        survived=max(0, done - restarts),
        requests_lost=lost,
        blocks_leaked=blocks,
        seeds=(seed,) if lost or restarts else (),
        note=f"engine or front end stands still for up to {LONGEST_PAUSE_S:g} s under {streams} "
        f"streams, {rounds * streams} in all (--engine-timeout {TIMEOUT_S}); texts equal to an "
        "undisturbed run's",
    )


def test_pauses_are_waited_for(start_tiny: StartServer) -> None:
    result = drill(6, 6, 1, start_tiny)
    assert result.tried == 6
    assert result.is_passed, result


def test_a_front_end_that_slept_does_not_take_the_engine_for_hung(start_tiny: StartServer) -> None:
    with start_tiny(*FLAGS, "--engine-timeout", "8") as server:
        streams = Streams(server.url, bodies_of(4, 2, 600))

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 8)
            await pause(server.process.pid, 10.0)

        streams.run(disturb)
        assert not streams.errors
        assert set(streams.finish_reasons.values()) == {"length"}
        assert server.gauge("octavo_engine_restarts_total") == 0
