"""Several front ends share one engine: they count, abort and cache as one, and may die."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ..conftest import NUM_TRIES, StartServer, poll_until
from .drill_result import DrillResult
from .engine_faults import Streams, front_end_pids, signal_engine, until

pytestmark = pytest.mark.slow

ADMIN = {"Authorization": "Bearer admin"}
PROMPT = "A prompt that is long enough to fill some blocks of sixteen tokens each. " * 2
DEADLINE_S = 60.0
NUM_STREAMS = 12  # spread by the kernel; all on one of two front ends: once in 2,000 times
LONGEST = 3900  # tokens, with a prompt, of one sequence
# Of these, queued: many seconds of work, more than any process stands still for.
MANY = 5 * NUM_STREAMS
NUM_KILLED_TOKENS = 700  # of each stream under which a front end dies
NUM_LATE_TOKENS = 5  # of each that comes afterwards


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


async def abort_all(server: Any) -> int:
    async with httpx.AsyncClient(base_url=server.url, verify=False, headers=ADMIN) as client:
        answer = await client.post("/abort_requests", json={"all": True}, timeout=60)
    return int(answer.json()["aborted"])


def test_aborting_reaches_the_requests_of_all_front_ends(pair: Any) -> None:
    """While the engine stands still, so that no stream ends but by being aborted."""
    streams = Streams(pair.url, bodies_of(LONGEST, num_streams=MANY))
    counts = []

    async def abort(running: Streams) -> None:
        await until(lambda: sum(map(bool, running.texts)) >= NUM_STREAMS)
        engine = signal_engine(pair, signal.SIGSTOP)
        try:
            await until(lambda: pair_load() + running.num_ended == MANY)  # all have come to it
            counts.append(await abort_all(pair))
            await until(lambda: running.num_ended == MANY)
        finally:
            os.kill(engine, signal.SIGCONT)

    def pair_load() -> int:
        return int(pair.get("/load").json()["server_load"])

    streams.run(abort)
    reasons = list(streams.finish_reasons.values())
    assert counts == [reasons.count("abort")] != [0]
    assert set(reasons) <= {"abort", "length"}
    assert not streams.errors


def test_load_and_dashboard_are_of_all(pair: Any) -> None:
    loads: set[int] = set()
    shown: set[int] = set()

    async def look(running: Streams) -> None:
        await until(lambda: all(running.texts))
        async with httpx.AsyncClient(base_url=pair.url, verify=False, timeout=60) as client:
            while NUM_STREAMS not in loads & shown and running.num_ended == 0:
                async with client.stream("GET", "/dashboard/events") as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data:") and '"requests"' in line:
                            shown.add(len(json.loads(line[5:])["requests"]))
                            break
                loads.add((await client.get("/load")).json()["server_load"])
        await abort_all(pair)

    for _ in range(NUM_TRIES):  # whoever stands still looks when they have ended
        streams = Streams(pair.url, bodies_of(LONGEST))
        streams.run(look)
        assert not streams.errors
        if NUM_STREAMS in loads & shown:
            break
    assert max(loads) == max(shown) == NUM_STREAMS


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
        streams = [
            Streams(server.url, [body]) for body in bodies_of(NUM_KILLED_TOKENS, seed + number)
        ]

        async def kill_one(running: list[Streams] = streams) -> None:
            await until(lambda: all(one.num_tokens > 2 for one in running))
            victims = front_end_pids(server)
            os.kill(rng.choice(victims), signal.SIGKILL)
            await until(lambda: len(set(front_end_pids(server)) - set(victims)) == 1)

        results = _run_all(streams, kill_one)
        broken += sum(isinstance(one, httpx.TransportError) for one in results)
        ended += sum(one is None for one in results)
        # Connections that the dead one would have got wait for its successor.
        late = Streams(server.url, bodies_of(NUM_LATE_TOKENS, seed + number))
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
    def num_generated() -> float:
        return pair.gauge("octavo_request_generation_tokens_sum")

    Streams(pair.url, bodies_of(NUM_LATE_TOKENS)).run()  # both have something to count
    pair.wait_idle()
    before = num_generated()
    ended = broken = kills = 0
    while kills < 2 or not ended or not broken:  # whoever stands still kills when all have ended
        assert kills < NUM_TRIES
        now_ended, now_broken, failed = kill_front_ends(pair, 1, seed=3 + kills)
        assert now_ended + now_broken == NUM_STREAMS
        assert failed == 0
        ended, broken, kills = ended + now_ended, broken + now_broken, kills + 1
    # What the dead had counted is not lost, and nobody counts what broke. (But it may have been
    # whole when its front end was killed: counted, and not yet read.)
    grown = num_generated() - before - kills * NUM_STREAMS * NUM_LATE_TOKENS
    num_whole, rest = divmod(grown, NUM_KILLED_TOKENS)
    assert rest == 0
    assert ended <= num_whole <= ended + broken


def kill_while_the_hub_stands_still(server: Any) -> int:
    """All front ends, when they have sent requests. Returns how many of these it read, and lost."""
    num_told = len(server.log_path.read_text())
    victims = front_end_pids(server)

    def ask(body: dict[str, Any]) -> None:
        with contextlib.suppress(httpx.TransportError):
            server.post("/v1/completions", json=body)

    clients = [threading.Thread(target=ask, args=(body,)) for body in bodies_of(3000)]
    os.kill(server.process.pid, signal.SIGSTOP)
    for client in clients:
        client.start()
    time.sleep(2.0)  # they have sent it, which nobody can see while the hub stands still
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    os.kill(server.process.pid, signal.SIGCONT)
    for client in clients:
        client.join()
    # A successor comes when what is left of the dead one is cancelled.
    poll_until(lambda: len(set(front_end_pids(server)) - set(victims)) == 2, DEADLINE_S)
    told = server.log_path.read_text()[num_told:]
    return sum(map(int, re.findall(r"(\d+) choices were lost with their front end", told)))


def test_what_dead_front_ends_have_sent_is_not_computed(pair: Any) -> None:
    """Their messages are read after their end, because the hub stood still."""
    lost: list[int] = []
    while not lost or lost[-1] == 0:  # it may learn of their ends first, and then reads nothing
        assert len(lost) < NUM_TRIES
        lost.append(kill_while_the_hub_stands_still(pair))
        pair.wait_idle()
    assert lost[-1] <= NUM_STREAMS


def test_a_port_that_is_shared_is_taken(pair: Any) -> None:
    port = pair.url.rpartition(":")[2]
    command = [sys.executable, "-m", "octavo", "serve", "--api-server-count", "2", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 1
    assert "cannot listen on" in ended.stderr
