"""Who is told when an engine dies, comes back, or does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from octavo.engine import supervisor
from octavo.engine.client import Death
from octavo.engine.errors import EngineDeadError
from octavo.engine.supervisor import MOST_FAILED_STARTS, Supervisor

DEATH = Death("it died", was_ready=True, was_killed=False)


class Client:
    """An engine's client whose starts go as it is told: an error, or what happens meanwhile."""

    def __init__(self, *starts: Exception | Callable[["Client"], None] | None) -> None:
        self._starts = list(starts)
        self.is_alive = self.is_ready = False
        self.num_starts = 0
        self.first_start_s = 0.0
        self.limits_s: list[float] = []
        self.kills: list[str] = []

    async def restart(self, timeout_s: float) -> None:
        self.num_starts += 1
        self.limits_s.append(timeout_s)
        await asyncio.sleep(0)
        start = self._starts.pop(0)
        if isinstance(start, Exception):
            raise start
        self.is_alive = True
        if start is not None:
            start(self)

    def kill(self, reason: str) -> None:
        """In vain."""
        self.kills.append(reason)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(supervisor, "LONGEST_DELAY_S", 0.001)


def run(client: Client) -> tuple[list[str], Supervisor]:
    """What was told after one death, until all is quiet."""
    told: list[str] = []

    # `Client` stands in for an EngineClient, of which a supervisor uses no more than that.
    async def die() -> Supervisor:
        watching = Supervisor(
            60.0,
            lambda: 0.0,
            lambda death: told.append("lost"),
            lambda: told.append("back"),
            lambda reason: told.append(reason),
        )
        client.supervisor = watching  # type: ignore[attr-defined]
        watching.start(client)  # type: ignore[arg-type]  # a stand-in for the process
        watching.note_death(DEATH)
        while len(told) < 2:
            await asyncio.sleep(0.001)
        watching.stop()
        return watching

    return told, asyncio.run(asyncio.wait_for(die(), 10.0))


def dies_at_once(client: Any) -> None:
    client.is_alive = False
    client.supervisor.note_death(DEATH)


def test_an_engine_that_dies_is_started_again() -> None:
    told, watching = run(Client(None))
    assert told == ["lost", "back"]
    assert (watching.num_restarts, watching.is_restarting) == (1, False)


@pytest.mark.parametrize(
    "failure",
    [EngineDeadError("no"), OSError("no process"), zmq.ZMQError(24), dies_at_once],
    ids=["dead", "no process", "no socket", "as soon as it was ready"],
)
def test_a_start_that_fails_is_followed_by_another(failure: Any) -> None:
    client = Client(failure, failure, None)
    told, watching = run(client)
    assert told == ["lost", "back"]
    assert (client.num_starts, watching.num_restarts) == (3, 1)
    assert not watching.is_restarting


def test_after_several_that_fail_there_will_be_none() -> None:
    client = Client(*[EngineDeadError("no")] * MOST_FAILED_STARTS)
    told, watching = run(client)
    assert told[0] == "lost" and "5 times in a row: no" in told[1]
    assert (client.num_starts, watching.num_restarts) == (MOST_FAILED_STARTS, 0)
    assert not watching.is_restarting


@pytest.mark.parametrize(("first_start_s", "limit_s"), [(0.5, 120.0), (100.0, 400.0)])
def test_a_replacement_may_take_some_times_as_long_as_the_first_start(
    first_start_s: float, limit_s: float
) -> None:
    client = Client(None)
    client.first_start_s = first_start_s
    run(client)
    assert client.limits_s == [limit_s]


def test_a_process_that_does_not_die_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "WATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_DYING_S", 0.05)
    client = Client()
    client.is_alive = client.is_ready = True

    async def hang() -> str:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watching = Supervisor(5.0, lambda: 9.0, lambda death: None, lambda: None, ended.set_result)
        watching.start(client)  # type: ignore[arg-type]  # a stand-in, too
        try:
            return await ended
        finally:
            watching.stop()

    reason = asyncio.run(asyncio.wait_for(hang(), 10.0))
    assert client.kills == ["no step has ended for 9 s (--engine-timeout)"]
    assert reason.startswith(client.kills[0]) and "does not die" in reason
