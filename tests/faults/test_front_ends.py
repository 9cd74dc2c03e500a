"""Several front ends share one engine: they count, abort and cache as one, and may die."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, children, engine_pid, front_end_pids, signal_engine, until

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
    loads = []

    async def look(running: Streams) -> None:
        await until(lambda: all(running.texts))
        async with httpx.AsyncClient(base_url=pair.url, verify=False) as client:
            for _ in range(20):
                async with client.stream("GET", "/dashboard/events") as answer:
                    assert answer.status_code == 200
                loads.append((await client.get("/load")).json()["server_load"])

    streams.run(look)
    assert max(loads) == NUM_STREAMS
    assert not streams.errors


def test_the_engine_dies_under_streams_of_all_front_ends(pair: Any) -> None:
    quiet = Streams(pair.url, bodies_of(400, seed=7))
    quiet.run()
    restarts = pair.gauge("octavo_engine_restarts_total")

    async def kill(running: Streams) -> None:
        for number in (1, 2):
            seen = running.num_events
            await until(lambda seen=seen: running.num_events > seen + 3 * NUM_STREAMS)
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
            await until(lambda: all(one.num_events > 2 for one in running))
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
    ended, broken, failed = kill_front_ends(pair, 2, seed=3)
    assert ended + broken == 2 * NUM_STREAMS
    assert ended > 0 and broken > 0 and failed == 0


def test_keys_and_tenants_are_those_of_all(
    start_tiny: StartServer, tmp_path: Path, wait_until: Any
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old\n")
    flags = ("--api-server-count", "2", "--api-key-file", str(keys), "--isolate-tenants")
    with start_tiny(*flags) as server:

        def num_cached() -> int:
            body = {"prompt": PROMPT, "max_tokens": 1}
            headers = {"Authorization": "Bearer old"}
            usage = server.post("/v1/completions", json=body, headers=headers).json()["usage"]
            return int(usage["prompt_tokens_details"]["cached_tokens"])

        assert num_cached() == 0
        assert {num_cached() for _ in range(NUM_STREAMS)} == {num_cached()} != {0}

        def statuses(key: str) -> set[int]:
            headers = {"Authorization": f"Bearer {key}"}
            return {
                server.get("/v1/models", headers=headers).status_code for _ in range(NUM_STREAMS)
            }

        keys.write_text("new\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: statuses("new") == {200}, DEADLINE_S)
        assert statuses("old") == {401}


def test_a_drain_is_everybodys(start_tiny: StartServer) -> None:
    with start_tiny("--api-server-count", "2") as server:
        streams = Streams(server.url, bodies_of(400))
        engine, others = engine_pid(server), front_end_pids(server)

        async def stop(running: Streams) -> None:
            await until(lambda: all(running.texts))
            server.process.send_signal(signal.SIGTERM)

        streams.run(stop)
        assert set(streams.finish_reasons.values()) == {"length"} and not streams.errors
        assert server.process.wait(DEADLINE_S) == 0
        for pid in (engine, *others):
            assert not Path(f"/proc/{pid}").exists()


def test_nobody_outlives_who_keeps_the_engine(start_tiny: StartServer, wait_until: Any) -> None:
    with start_tiny("--api-server-count", "2") as server:
        left = children(server, "")
        assert len(left) >= 3
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(_runs(pid) for pid in left), DEADLINE_S)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_front_ends_that_cannot_start_end_the_server(tiny_model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("{% if %}")
    command = ["serve", str(tiny_model), "--api-server-count", "2", "--port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "octavo", *command, "--chat-template", str(template)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert ended.returncode == 1
    assert "chat template" in ended.stderr and "a front end did not come up" in ended.stderr
    assert "Traceback" not in ended.stderr
