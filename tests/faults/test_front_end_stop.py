"""SIGTERM to a server under load, at random moments: what runs is finished, then it ends."""

import random
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, engine_pid, until

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "2048", "--drain-timeout", "120")
EXIT_DEADLINE_S = 60.0


def bodies_of(num_streams: int, seed: int) -> list[dict[str, Any]]:
    """Streams of different lengths."""
    return [
        {
            "prompt": f"{seed}: {i}",
            "max_tokens": 1000 + 20 * i,
            "ignore_eos": True,
            "seed": seed + i,
        }
        for i in range(num_streams)
    ]


def stop_under_load(server: Any, streams: Streams, rng: random.Random) -> list[str]:
    """Signal at a random moment of the streams. Returns what was not as it should be."""
    complaints = []
    num_streams = len(streams.texts)
    moment = rng.randrange(num_streams, 6 * num_streams)
    engine = engine_pid(server)

    async def stop(running: Streams) -> None:
        await until(lambda: running.num_tokens >= moment)
        assert running.num_ended < num_streams
        server.process.send_signal(signal.SIGTERM)
        await until(lambda: not _is_ready(server))
        if not _refuses(server):
            complaints.append("a request was taken after the signal")

    streams.run(stop)
    code = server.process.wait(EXIT_DEADLINE_S)
    if code != 0:
        complaints.append(f"it ended with {code}")
    if Path(f"/proc/{engine}").exists():
        complaints.append("the engine process is left behind")
    complaints += [f"stream {i}: {error['message']}" for i, error in streams.errors.items()]
    return complaints


def _is_ready(server: Any) -> bool:
    try:
        return bool(server.get("/readyz").status_code == 200)
    except httpx.TransportError:
        return False


def _refuses(server: Any) -> bool:
    try:
        answer = server.post("/v1/completions", json={"prompt": "late", "max_tokens": 1})
    except httpx.TransportError:  # it has stopped listening
        return True
    return bool(answer.status_code == 503)


def drill(stops: int, streams: int, seed: int, start_server: StartServer) -> DrillResult:
    """So many servers, each stopped under so many streams."""
    rng = random.Random(seed)
    survived, lost = 0, 0
    for number in range(stops):
        with start_server(*FLAGS) as server:
            running = Streams(server.url, bodies_of(streams, seed + number))
            complaints = stop_under_load(server, running, rng)
        cut = [i for i in range(streams) if running.finish_reasons.get(i) != "length"]
        lost += len(cut)
        survived += not complaints and not cut
        if complaints or cut:
            print(f"front-end stop, seed {seed}, server {number}: {complaints}, cut: {cut}")
    return DrillResult(
        name="SIGTERM to the front end under load",
        tried=stops,
        survived=survived,
        requests_lost=lost,
        seeds=() if survived == stops else (seed,),
        note=f"{streams} streams each run to their ends, new requests get 503, exit code 0",
    )


def test_what_runs_is_finished(start_tiny: StartServer) -> None:
    result = drill(2, 12, 1, start_tiny)
    assert result.is_passed, result
