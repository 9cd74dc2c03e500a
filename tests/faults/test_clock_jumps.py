"""The wall clock jumps by years: nothing but the dates in answers follows it."""

import random
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, break_engines, once

pytestmark = pytest.mark.slow

FLAGS = ("--deterministic", "--num-blocks", "1024", "--engine-timeout", "20")
HOUR_S = 3600.0
YEAR_S = 365 * 24 * HOUR_S
JUMPS_S = (YEAR_S, -YEAR_S, HOUR_S, -HOUR_S, 30.0, -30.0, 20 * YEAR_S, 0.0)
NUM_STREAMS = 6
MOST_SECONDS = 600.0  # that a stage of a request can have taken in a drill


def moved_clock(folder: Path) -> Path:
    """Make a folder for PYTHONPATH under which `time.time` is off by what a file says."""
    offset = folder / "offset"
    offset.write_text("0")
    code = f"""
        import time

        _time = time.time

        def moved_time():
            with open({str(offset)!r}) as file:
                return _time() + float(file.read() or 0)

        time.time = moved_time
        time.time_ns = lambda: int(moved_time() * 1e9)
        """
    (folder / "sitecustomize.py").write_text(textwrap.dedent(code))
    return offset


def bodies_of(seed: int) -> list[dict[str, Any]]:
    """Seeded streams."""
    return [
        {"prompt": f"{seed}: {i}", "max_tokens": 1500, "ignore_eos": True, "seed": seed + i}
        for i in range(NUM_STREAMS)
    ]


def strange_times(server: Any) -> dict[str, float]:
    """Sums of durations that are no durations a drill can have."""
    return {
        name: value
        for name, value in server.metrics().items()
        if name.split("{")[0].endswith("_seconds_sum") and not 0 <= value < MOST_SECONDS
    }


def drill(
    jumps: int, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch, start_server: StartServer
) -> DrillResult:
    """So many jumps of the clock of both processes under streams."""
    offset = moved_clock(folder)
    flag, new = folder / "flag", folder / "new"
    move = f"os.replace({str(new)!r}, {str(offset)!r})"  # by the engine, while all streams run
    monkeypatch.setenv("PYTHONPATH", break_engines(folder, once(flag, NUM_STREAMS, 20), move))
    rng = random.Random(seed)
    survived, lost = 0, 0
    with start_server(*FLAGS) as server:
        quiet = Streams(server.url, bodies_of(seed))
        quiet.run()
        for number in range(jumps):
            jump = rng.choice(JUMPS_S)
            new.write_text(str(jump))
            flag.touch()
            streams = Streams(server.url, bodies_of(seed))
            streams.run()
            assert not flag.exists(), "the clock has not jumped under all streams"
            wrong = sum(a != b for a, b in zip(streams.texts, quiet.texts, strict=True))
            answer = server.post("/v1/completions", json={"prompt": "When?", "max_tokens": 1})
            is_dated = abs(answer.json()["created"] - (time.time() + jump)) < 60
            strange = strange_times(server)
            is_ready = server.get("/readyz").status_code == 200
            lost += wrong
            survived += not wrong and is_dated and not strange and is_ready
            if wrong or not is_dated or strange or not is_ready:
                print(f"clock, seed {seed}, jump {number} by {jump}: {wrong} {is_dated} {strange}")
        server.wait_idle()
        blocks = int(server.gauge("octavo_kv_blocks_used"))
        assert server.gauge("octavo_engine_restarts_total") == 0
    return DrillResult(
        name="clock jumps",
        tried=jumps,
        survived=survived,
        requests_lost=lost,
        blocks_leaked=blocks,
        seeds=(seed,) if survived < jumps else (),
        note=f"by up to 20 years under {NUM_STREAMS} streams: texts, durations in the metrics, "
        "time-outs and readiness stay; `created` follows",
    )


def test_nothing_follows_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_tiny: StartServer
) -> None:
    result = drill(4, 2, tmp_path, monkeypatch, start_tiny)
    assert result.is_passed, result
