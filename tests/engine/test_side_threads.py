"""Work beside the event loop: what waits for a thread is forgotten as soon as it is cancelled."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from octavo.engine.side_threads import SideThreads

DEADLINE_S = 20.0


class Work:
    """Waits on a thread until it may go on."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(2 * DEADLINE_S)
        return "done"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, DEADLINE_S))


async def began(work: Work) -> None:
    while not work.began.is_set():
        await asyncio.sleep(0.001)


async def forgotten(is_kept: Callable[[], object]) -> None:
    while is_kept() is not None:  # the loop itself lets go in its next turn
        await asyncio.sleep(0.001)
        gc.collect()


async def cancel_before_it_begins(threads: SideThreads) -> None:
    """Work that waits for a thread is cancelled, and nobody keeps it."""
    work = Work()
    waiting = asyncio.create_task(threads.run(work))
    await asyncio.sleep(0)  # so that it waits
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    is_kept = weakref.ref(work)
    del waiting, work
    await forgotten(is_kept)


def test_what_is_cancelled_before_its_turn_is_forgotten_though_the_thread_is_busy() -> None:
    async def scenario() -> None:
        threads = SideThreads(1, "test")
        first = Work()
        running = asyncio.create_task(threads.run(first))
        await began(first)
        await cancel_before_it_begins(threads)
        first.may_end.set()
        assert await running == "done"
        threads.close()

    run(scenario())


def test_the_thread_of_cancelled_work_is_busy_until_that_ends() -> None:
    async def scenario() -> None:
        threads = SideThreads(1, "test")
        first, third = Work(), Work()
        running = asyncio.create_task(threads.run(first))
        await began(first)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        # Had that freed the thread, the next would be out of the loop's hands.
        await cancel_before_it_begins(threads)
        last = asyncio.create_task(threads.run(third))
        first.may_end.set()
        third.may_end.set()
        assert await last == "done"
        threads.close()

    run(scenario())


def test_errors_come_back_and_free_the_thread() -> None:
    async def scenario() -> None:
        threads = SideThreads(1, "test")

        def fail() -> None:
            raise ValueError("no")

        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await threads.run(fail)
        threads.close()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await threads.run(fail)

    run(scenario())
