"""The engine dies under its streams, again and again: their texts are those of a quiet run."""

import asyncio
import json
import os
import random
import shutil
import signal
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import START_DEADLINE_S, ServerProcess, StartServer, poll_until
from .drill_result import DrillResult
from .engine_faults import (
    Streams,
    break_engines,
    engine_pid,
    once,
    patch,
    signal_engine,
    until,
)

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


# Who has been in more steps of an engine than that is no suspect when it dies.
TRIAL_STEPS = 3
MOST_STEPS = 16  # of an engine until it dies, but for those of trials
KILLS_A_TRIAL = 25
# The plan says of each engine how old in steps it is when it dies, and if that may be in a trial.
DIE_AS_PLANNED = """
    import collections, json, signal
    from pathlib import Path
    from octavo.models.runner import ModelRunner

    plan_file = Path({plan!r})
    launch = ModelRunner.launch
    num_steps = collections.Counter()

    def launch_or_die(self, batch):
        plan = json.loads(plan_file.read_text()) if plan_file.exists() else []
        if plan:
            (most_steps, is_in_trial), *later = plan
            num_steps.update(["all", *(item.request_id for item in batch)])
            is_trial = any(num_steps[item.request_id] <= {trial} for item in batch)
            if num_steps["all"] >= most_steps and (is_in_trial or not is_trial):
                plan_file.write_text(json.dumps(later))
                os.kill(os.getpid(), signal.SIGKILL)
        return launch(self, batch)

    ModelRunner.launch = launch_or_die
    """


def plan_of(kills: int, seed: int) -> list[tuple[int, bool]]:
    """Moments somewhere in a replay, or in the steps after it."""
    chance = random.Random(seed)
    return [
        (chance.randrange(1, MOST_STEPS), number % KILLS_A_TRIAL == 0) for number in range(kills)
    ]


def drill(kills: int, streams: int, seed: int, start_server: StartServer) -> DrillResult:
    """The whole of it: a quiet run, a disturbed one, and what differs."""
    # More than the steps that all engines together live: no stream ends before the last kill.
    num_trials = -(-kills // KILLS_A_TRIAL)
    max_tokens = (MOST_STEPS + TRIAL_STEPS + 1) * kills + (TRIAL_STEPS + 1) * streams * num_trials
    flags = ("--num-blocks", str(streams * (-(-(max_tokens + 400) // 16) + 2) + 2))
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as environment,
    ):
        plan = Path(name) / "plan"
        code = DIE_AS_PLANNED.format(plan=str(plan), trial=TRIAL_STEPS)
        environment.setenv("PYTHONPATH", patch(Path(name), "octavo.engine.process", code))
        with start_server(*FLAGS, *flags) as server:
            quiet = Streams(server.url, bodies_of(streams, seed, max_tokens))
            quiet.run()
            assert not quiet.errors
            plan.write_text(json.dumps(plan_of(kills, seed)))
            disturbed = Streams(server.url, bodies_of(streams, seed, max_tokens))
            disturbed.run()
            assert json.loads(plan.read_text()) == [], f"seed {seed}: too few tokens"
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


def test_streams_go_on_as_if_nothing_had_happened(start_tiny: StartServer) -> None:
    def start(*flags: str) -> AbstractContextManager[ServerProcess]:
        return start_tiny(*flags, *LONGER)

    result = drill(kills=4, streams=12, seed=1, start_server=start)
    assert (result.requests_lost, result.blocks_leaked) == (0, 0)


def test_meanwhile_the_truth_is_told_and_new_requests_wait(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"  # while it is there, engines do not get beyond it
    wait = f"while os.path.exists({str(gate)!r}):\n    time.sleep(0.1)\n"
    monkeypatch.setenv("PYTHONPATH", patch(tmp_path, "octavo.engine.process", wait))
    with start_server(*FLAGS) as server:
        gate.touch()
        early = Streams(server.url, bodies_of(2, 5, 40))
        late = Streams(server.url, bodies_of(2, 6, 20))

        async def disturb(running: Streams) -> None:
            await until(lambda: running.num_tokens >= 4)
            pid = signal_engine(server, signal.SIGKILL)
            await until(lambda: not os.path.exists(f"/proc/{pid}"))
            async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=False) as client:
                assert (await client.get("/livez")).status_code == 200
                ready = await client.get("/readyz")
                assert ready.status_code == 503 and ready.headers["Retry-After"]
                metrics = (await client.get("/metrics")).text
                assert 'octavo_engine_up{engine="0"' in metrics
                line = next(x for x in metrics.splitlines() if x.startswith("octavo_engine_up{"))
                assert float(line.rsplit(" ", 1)[1]) == 0.0
            waiting = asyncio.create_task(late._run(None))
            gate.unlink()
            await waiting

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
        poll_until(lambda: server.get("/readyz").status_code == 200, START_DEADLINE_S)
        server.wait_idle()
        assert server.gauge("octavo_engine_restarts_total") == 1
        metrics = server.metrics()
        aborted = [v for k, v in metrics.items() if "requests_aborted" in k and "client_gone" in k]
        assert aborted == [1.0]


def test_a_server_whose_engine_does_not_come_up_again_ends(
    start_server: StartServer, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    flag = tmp_path / "flag"
    killed = break_engines(tmp_path, once(flag, 2, 40), DIE)
    monkeypatch.setenv("PYTHONPATH", killed)
    with start_server(str(model), *FLAGS, *LONGER) as server:
        shutil.rmtree(model)
        flag.touch()
        streams = Streams(server.url, bodies_of(2, 8, 800))
        streams.run()
        assert set(streams.errors) == {0, 1}
        assert "did not come up 5 times in a row" in streams.errors[0]["message"]
        assert server.process.wait(timeout=60) == 1
        assert "did not come up 5 times in a row" in server.log_path.read_text()


DIE = "os.kill(os.getpid(), signal.SIGKILL)"
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"
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
        (f"any({IS_POISON} for it in batch)", "time.sleep(10**6)", ("--engine-timeout", "8")),
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
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, once(flag, 3, 20), STOP))
    with start_server(*FLAGS, "--engine-timeout", "30") as server:
        flag.touch()
        streams = Streams(server.url, bodies_of(3, 9, 40))

        async def disturb(running: Streams) -> None:
            await until(lambda: not flag.exists())
            age = "octavo_last_step_age_seconds"
            await until(lambda: server.gauge(age) > 1.0)
            signal_engine(server, signal.SIGCONT)

        streams.run(disturb)
        assert not streams.errors
        assert server.gauge("octavo_engine_restarts_total") == 0


def test_an_engine_that_stops_for_longer_is_replaced(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, once(flag, 4, 20), STOP))
    with start_server(*FLAGS, "--engine-timeout", "8") as server:
        bodies = bodies_of(4, 10, 48)
        quiet = Streams(server.url, bodies)
        quiet.run()
        before = engine_pid(server)
        flag.touch()
        streams = Streams(server.url, bodies)
        streams.run()
        assert not flag.exists()
        assert streams.texts == quiet.texts
        assert engine_pid(server) != before
        num_restarts = server.gauge("octavo_engine_restarts_total")
        assert num_restarts >= 1
        assert server.log_path.read_text().count("no step has ended for") == num_restarts
