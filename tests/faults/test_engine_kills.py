"""The engine dies under its streams, again and again: their texts are those of a quiet run."""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams, break_engines, signal_engine, until

pytestmark = pytest.mark.slow

FLAGS = ("--dtype", "float32", "--deterministic", "--max-model-len", "1024")
LONGER = ("--max-model-len", "2048")  # for a model of which each byte is a token


def bodies_of(num_streams: int, seed: int, max_tokens: int) -> list[dict[str, Any]]:
    """Seeded requests of many kinds."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.9},
        {"temperature": 0},
        {"temperature": 1.2, "top_p": 0.8, "presence_penalty": 0.5, "frequency_penalty": 0.2},
        {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.2, "logit_bias": {"42": 1.5}},
        {"temperature": 0.8, "stop": ["zebra"], "min_p": 0.05, "logprobs": 2},
    ]
    shared = "The old library at the harbour had rules that everybody knew by heart. " * 3
    return [
        {
            "prompt": (shared if number % 3 == 0 else "") + f"Story {seed} of {number}: once upon",
            "max_tokens": max_tokens + number % 7,
            "seed": seed * 1000 + number,
            "ignore_eos": True,
            **kinds[number % len(kinds)],
        }
        for number in range(num_streams)
    ]


def kill_under_load(server: Any, kills: int, streams: int, seed: int, max_tokens: int) -> Streams:
    """Stream with an engine that is killed at random moments, until so many kills are done."""
    chance = random.Random(seed)
    disturbed = Streams(server.url, bodies_of(streams, seed, max_tokens))

    async def kill(running: Streams) -> None:
        before = server.gauge("octavo_engine_restarts_total")
        for number in range(kills):
            # A moment somewhere in a replay, or in the steps after it.
            seen = running.num_tokens
            wanted = chance.randrange(1, 12 * streams)
            await until(
                lambda seen=seen, wanted=wanted: (
                    running.num_tokens >= seen + wanted or running.num_ended == streams
                ),
                180.0,
            )
            if running.num_ended == streams:
                pytest.fail(f"seed {seed}: they ended after {number} kills: too few tokens")
            signal_engine(server, signal.SIGKILL)
            await until(
                lambda number=number: (
                    server.gauge("octavo_engine_restarts_total") > before + number
                ),
                120.0,
            )

    disturbed.run(kill)
    return disturbed


def drill(kills: int, streams: int, seed: int, start_server: StartServer) -> DrillResult:
    """The whole of it: a quiet run, a disturbed one, and what differs."""
    max_tokens = max(80, 20 * kills)  # more than all kills together let pass
    flags = ("--num-blocks", str(streams * (-(-(max_tokens + 400) // 16) + 2) + 2))
    with start_server(*FLAGS, *flags) as server:
        quiet = Streams(server.url, bodies_of(streams, seed, max_tokens))
        quiet.run()
        assert not quiet.errors
        disturbed = kill_under_load(server, kills, streams, seed, max_tokens)
        server.wait_idle()
        blocks = server.gauge("octavo_kv_blocks_used")
        assert server.gauge("octavo_engine_restarts_total") == kills
    lost = [i for i in range(streams) if disturbed.texts[i] != quiet.texts[i]]
    assert all(i in lost for i in disturbed.errors)
    return DrillResult(
        name="engine killed under streams",
        tried=kills,
        survived=kills,
        requests_lost=len(lost),
        blocks_leaked=int(blocks),
        seeds=(seed,) if lost else (),
        note=f"{streams} seeded streams; "
        + ("texts differ from" if lost else "texts equal to")
        + " an undisturbed run's",
    )


def test_streams_go_on_as_if_nothing_had_happened(start_server: StartServer) -> None:
    result = drill(kills=4, streams=12, seed=1, start_server=start_server)
    assert (result.requests_lost, result.blocks_leaked) == (0, 0)


def test_meanwhile_the_truth_is_told_and_new_requests_wait(start_server: StartServer) -> None:
    with start_server(*FLAGS) as server:
        early = Streams(server.url, bodies_of(2, 5, 40))
        late = Streams(server.url, bodies_of(2, 6, 20))

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 4)
            pid = signal_engine(server, signal.SIGKILL)
            await until(lambda: not os.path.exists(f"/proc/{pid}"))
            async with httpx.AsyncClient(base_url=server.url, verify=False) as client:
                assert (await client.get("/livez")).status_code == 200
                ready = await client.get("/readyz")
                assert ready.status_code == 503 and ready.headers["Retry-After"]
                metrics = (await client.get("/metrics")).text
                assert 'octavo_engine_up{engine="0"' in metrics
                line = next(x for x in metrics.splitlines() if x.startswith("octavo_engine_up{"))
                assert float(line.rsplit(" ", 1)[1]) == 0.0
            await late._run(None)

        early.run(disturb)
        assert not early.errors and not late.errors
        assert set(early.finish_reasons.values()) == set(late.finish_reasons.values()) == {"length"}
        server.wait_idle()
        assert server.gauge("octavo_engine_restarts_total") == 1
        assert server.get("/readyz").status_code == 200


def test_who_leaves_while_there_is_no_engine_is_not_replayed(start_server: StartServer) -> None:
    with start_server(*FLAGS) as server:
        body = {"prompt": "A long tale", "max_tokens": 900, "ignore_eos": True, "stream": True}
        with httpx.stream(
            "POST", server.url + "/v1/completions", json=body, timeout=60, verify=False
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            signal_engine(server, signal.SIGKILL)
        server.wait_idle()
        assert server.gauge("octavo_engine_restarts_total") == 1
        metrics = server.metrics()
        aborted = [v for k, v in metrics.items() if "requests_aborted" in k and "client_gone" in k]
        assert aborted == [1.0]


def test_a_server_whose_engine_does_not_come_up_again_ends(
    start_server: StartServer, tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    with start_server(str(model), *FLAGS, *LONGER) as server:
        streams = Streams(server.url, bodies_of(2, 8, 800))

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 4)
            shutil.rmtree(model)
            signal_engine(server, signal.SIGKILL)

        streams.run(disturb)
        assert set(streams.errors) == {0, 1}
        assert "did not come up 5 times in a row" in streams.errors[0]["message"]
        assert server.process.wait(timeout=60) == 1
        assert "did not come up 5 times in a row" in server.log_path.read_text()


IS_POISON = "it.request_id.startswith('cmpl-poison')"


@pytest.mark.parametrize(
    ("condition", "deed", "flags"),
    [
        (f"any({IS_POISON} for it in batch)", "os.abort()", ()),
        # In the tenth decode step after its prompt, wherever that is computed anew.
        (
            f"any({IS_POISON} and it.start >= 12 for it in batch)",
            "os.kill(os.getpid(), signal.SIGSEGV)",
            (),
        ),
        (f"any({IS_POISON} for it in batch)", "time.sleep(10**6)", ("--engine-timeout", "2")),
    ],
    ids=["in its prompt", "in its tenth step", "by hanging"],
)
def test_a_request_that_kills_engines_is_ended_and_the_others_live(
    condition: str,
    deed: str,
    flags: tuple[str, ...],
    start_tiny: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, condition, deed))
    with start_tiny(*FLAGS, *LONGER, *flags) as server:
        good = bodies_of(6, 3, 48)
        quiet = Streams(server.url, good)
        quiet.run()
        poison = {
            "prompt": [40, 250, 41],
            "max_tokens": 60,
            "ignore_eos": True,
            "temperature": 0,
            "request_id": "poison",
        }
        disturbed = Streams(server.url, [*good, poison])
        disturbed.run()
        assert set(disturbed.errors) == {6}
        assert "made the engine fail" in disturbed.errors[6]["message"]
        assert disturbed.texts[:6] == quiet.texts
        server.wait_idle()
        num_restarts = server.gauge("octavo_engine_restarts_total")
        assert 2 <= num_restarts <= 4

        again = server.post("/v1/completions", json=poison)
        assert again.status_code == 400
        assert "not taken again" in again.json()["error"]["message"]
        other = server.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 3})
        assert other.status_code == 200
        assert server.gauge("octavo_engine_restarts_total") == num_restarts


def test_an_engine_that_stops_for_less_than_the_time_out_is_waited_for(
    start_server: StartServer,
) -> None:
    with start_server(*FLAGS, "--engine-timeout", "30") as server:
        streams = Streams(server.url, bodies_of(3, 9, 40))

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 6)
            signal_engine(server, signal.SIGSTOP)
            age = "octavo_last_step_age_seconds"
            await until(lambda: server.gauge(age) > 1.0)
            signal_engine(server, signal.SIGCONT)

        streams.run(disturb)
        assert not streams.errors
        assert server.gauge("octavo_engine_restarts_total") == 0


def test_an_engine_that_stops_for_longer_is_replaced(start_server: StartServer) -> None:
    with start_server(*FLAGS, "--engine-timeout", "2") as server:
        bodies = bodies_of(4, 10, 48)
        quiet = Streams(server.url, bodies)
        quiet.run()
        streams = Streams(server.url, bodies)

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 8)
            signal_engine(server, signal.SIGSTOP)

        streams.run(disturb)
        assert streams.texts == quiet.texts
        assert server.gauge("octavo_engine_restarts_total") == 1
        assert "no step has ended for" in server.log_path.read_text()
