"""An engine's process and its end, of which the event loop hears without the threads of others."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from octavo.engine.launch import EngineProcess


@pytest.fixture
def process() -> Iterator[EngineProcess]:
    process = EngineProcess()  # it waits to be configured
    yield process
    process.discard()


@pytest.fixture(params=["pidfd", "no pidfd"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.usefixtures("waiting")
def test_its_end_is_heard_of_while_all_threads_are_busy(process: EngineProcess) -> None:
    may_end = threading.Event()

    async def kill_it() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        tokenizing = loop.run_in_executor(None, may_end.wait)
        waits = [asyncio.create_task(process.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        process.kill()
        try:
            first, second = await asyncio.wait_for(asyncio.gather(*waits), 60.0)
        finally:
            may_end.set()
            await tokenizing
        assert first == second == await process.wait()
        return first

    assert asyncio.run(kill_it()) == -9


@pytest.mark.usefixtures("waiting")
def test_another_follows_at_the_same_address(process: EngineProcess) -> None:
    async def restart() -> None:
        before = process.address
        await process.restart()
        assert process.is_alive and process.address == before

    asyncio.run(restart())
