"""Several front ends share one engine: they count, abort and cache as one, and may die."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, front_end_pids, signal_engine, until

pytestmark = pytest.mark.slow

ADMIN = {"Authorization": "Bearer admin"}
PROMPT = "A prompt that is long enough to fill some blocks of sixteen tokens each. " * 2
DEADLINE_S = 60.0
NUM_STREAMS = 12  # spread by the kernel; all on one of two front ends: once in 2,000 times


@pytest.fixture(scope="module")
def session_pair(start_tiny: StartServer) -> Iterator[Any]:
    flags = ("--admin-key", "admin", "--deterministic")
    with start_tiny("--api-server-count", "2", *flags) as server:
        yield server


@pytest.fixture
def pair(session_pair: Any, wait_until: Any) -> Iterator[Any]:
    """A server with two front ends, idle before and after."""
    wait_until(lambda: len(front_end_pids(session_pair)) == 2, DEADLINE_S)
    session_pair.wait_idle()
    yield session_pair
    session_pair.wait_idle()


def bodies_of(max_tokens: int, seed: int = 0, num_streams: int = NUM_STREAMS) -> list[Any]:
    return [
        {"prompt": f"{seed}: {i}", "max_tokens": max_tokens, "ignore_eos": True, "seed": seed + i}
        for i in range(num_streams)
    ]


def test_whoever_is_asked_tells_of_all(pair: Any) -> None:
    before = pair.metrics()
    for _ in range(NUM_STREAMS):  # each over a connection of its own
        answer = pair.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 3})
        assert answer.status_code == 200
    for _ in range(NUM_STREAMS):
        now = pair.metrics()
        grown = {
            name.split("{")[0]: value - before[name]
            for name, value in now.items()
            if "{" not in name or 'finished_reason="length"' in name or name.count('"') == 4
            if name in before
        }
        assert grown["octavo_request_success_total"] == NUM_STREAMS
        assert grown["octavo_generation_tokens_total"] == 3 * NUM_STREAMS
        assert grown["octavo_time_to_first_token_seconds_count"] == NUM_STREAMS
        assert grown["octavo_iteration_tokens_count"] == 3 * NUM_STREAMS  # each step once


def test_aborting_reaches_the_requests_of_all_front_ends(pair: Any) -> None:
    streams = Streams(pair.url, bodies_of(3000))
    counts = []

    async def abort(running: Streams) -> None:
        await until(lambda: all(running.texts))
        async with httpx.AsyncClient(base_url=pair.url, verify=False, headers=ADMIN) as client:
            answer = await client.post("/abort_requests", json={"all": True}, timeout=60)
        counts.append(answer.json())

    streams.run(abort)
    assert counts == [{"aborted": NUM_STREAMS}]
    assert set(streams.finish_reasons.values()) == {"abort"}
    assert not streams.errors


def test_load_and_dashboard_are_of_all(pair: Any) -> None:
    streams = Streams(pair.url, bodies_of(1500))
    loads: list[int] = []
    shown: list[int] = []

    async def look(running: Streams) -> None:
        await until(lambda: all(running.texts))
        async with httpx.AsyncClient(base_url=pair.url, verify=False) as client:
            for _ in range(20):
                async with client.stream("GET", "/dashboard/events") as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data:") and '"requests"' in line:
                            shown.append(len(json.loads(line[5:])["requests"]))
                            break
                loads.append((await client.get("/load")).json()["server_load"])

    streams.run(look)
    assert max(loads) == max(shown) == NUM_STREAMS
    assert not streams.errors


def test_the_engine_dies_under_streams_of_all_front_ends(pair: Any) -> None:
    quiet = Streams(pair.url, bodies_of(400, seed=7))
    quiet.run()
    restarts = pair.gauge("octavo_engine_restarts_total")

    async def kill(running: Streams) -> None:
        for number in (1, 2):
            seen = running.num_tokens
            await until(lambda seen=seen: running.num_tokens > seen + 3 * NUM_STREAMS)
            signal_engine(pair, signal.SIGKILL)
            await until(
                lambda number=number: (
                    pair.gauge("octavo_engine_restarts_total") == restarts + number
                ),
                DEADLINE_S,
            )

    disturbed = Streams(pair.url, bodies_of(400, seed=7))
    disturbed.run(kill)
    assert disturbed.texts == quiet.texts
    assert not disturbed.errors and not quiet.errors


def kill_front_ends(server: Any, kills: int, seed: int) -> tuple[int, int, int]:
    """One front end at a time dies under streams of both.

    Returns how many streams ended well, how many broke with their front end, and how many of those
    that began afterwards failed.
    """
    rng = random.Random(seed)
    ended = broken = failed = 0
    for number in range(kills):
        streams = [Streams(server.url, [body]) for body in bodies_of(700, seed + number)]

        async def kill_one(running: list[Streams] = streams) -> None:
            await until(lambda: all(one.num_tokens > 2 for one in running))
            victims = front_end_pids(server)
            os.kill(rng.choice(victims), signal.SIGKILL)
            await until(lambda: len(set(front_end_pids(server)) - set(victims)) == 1)

        results = _run_all(streams, kill_one)
        broken += sum(isinstance(one, httpx.TransportError) for one in results)
        ended += sum(one is None for one in results)
        # Connections that the dead one would have got wait for its successor.
        late = Streams(server.url, bodies_of(5, seed + number))
        late.run()
        failed += NUM_STREAMS - len(late.finish_reasons)
        server.wait_idle()
    return ended, broken, failed


def _run_all(streams: list[Streams], meanwhile: Any) -> list[Any]:
    """Read them side by side; of each, what ended it before its end, or None."""

    async def run() -> list[Any]:
        *results, last = await asyncio.gather(
            *(one._run(None) for one in streams), meanwhile(), return_exceptions=True
        )
        if last is not None:
            raise last
        return results

    return asyncio.run(run())


def drill(kills: int, seed: int, start_server: StartServer) -> DrillResult:
    """Streams of the front ends that live are not touched, and every block comes back."""
    with start_server("--api-server-count", "2") as server:
        ended, broken, failed = kill_front_ends(server, kills, seed)
        blocks = int(server.gauge("octavo_kv_blocks_used"))
    lost = kills * NUM_STREAMS - ended - broken + failed
    return DrillResult(
        name="one of two front ends killed under streams",
        tried=kills,
        survived=kills,
        requests_lost=lost,
        blocks_leaked=blocks,
        seeds=(seed,) if lost or blocks else (),
        note=f"{ended} streams of the other ended well; {broken} broke with theirs, as they must",
    )


def test_a_front_end_dies_and_the_others_go_on(pair: Any) -> None:
    before = pair.gauge("octavo_generation_tokens_total")
    ended, broken, failed = kill_front_ends(pair, 2, seed=3)
    assert ended + broken == 2 * NUM_STREAMS
    assert ended > 0 and broken > 0 and failed == 0
    # What the dead had counted is not lost.
    assert pair.gauge("octavo_generation_tokens_total") >= before + ended * 700


def test_what_dead_front_ends_have_sent_is_not_computed(pair: Any) -> None:
    """Their messages are read after their end, because the hub stood still."""
    os.kill(pair.process.pid, signal.SIGSTOP)
    victims = front_end_pids(pair)

    def ask(body: dict[str, Any]) -> None:
        with contextlib.suppress(httpx.TransportError):
            pair.post("/v1/completions", json=body)

    clients = [threading.Thread(target=ask, args=(body,)) for body in bodies_of(3000)]
    for client in clients:
        client.start()
    time.sleep(2.0)  # they have sent it, which nobody can see while the hub stands still
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    os.kill(pair.process.pid, signal.SIGCONT)
    for client in clients:
        client.join()
    pair.wait_idle()


def test_a_port_that_is_shared_is_taken(pair: Any) -> None:
    port = pair.url.rpartition(":")[2]
    command = [sys.executable, "-m", "octavo", "serve", "--api-server-count", "2", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 1
    assert "cannot listen on" in ended.stderr
