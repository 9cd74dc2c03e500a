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

    async def restart(self) -> None:
        self.num_starts += 1
        await asyncio.sleep(0)
        start = self._starts.pop(0)
        if isinstance(start, Exception):
            raise start
        self.is_alive = True
        if start is not None:
            start(self)


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
        watching.start(client)  # type: ignore[arg-type]
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
