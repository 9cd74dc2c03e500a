"""The feed between engine and viewers: several, slow ones, and an engine that is away."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from octavo.engine.errors import EngineDeadError
from octavo.engine.live_feed import LiveFeed, View
from octavo.engine.messages import Frame, RequestRow
from octavo.paged_cache import CellLog, cells_of_runs

NUM_CELLS = 6
DEADLINE_S = 20.0
ROW = RequestRow(owner=1, request_id="a", stage="decode", prompt_tokens=3)


class Engine:
    """An engine of which only the blocks matter."""

    def __init__(self) -> None:
        self.log = CellLog(NUM_CELLS, version=5)
        self.rows: tuple[RequestRow, ...] = (ROW,)
        self.error: Exception | None = None
        self.asked: list[int] = []

    async def frame(self, since: int) -> Frame:
        self.asked.append(since)
        if self.error is not None:
            raise self.error
        is_full = since < 5
        return Frame(
            version=self.log.version,
            is_full=is_full,
            runs=self.log.runs_since(None if is_full else since),
            blocks_free=NUM_CELLS,
            blocks_cached=0,
            blocks_used=0,
            blocks_shared=0,
            num_running=len(self.rows),
            num_waiting=0,
            requests=self.rows,
            ticket=0,
        )


class Viewer:
    """Puts together what it sees."""

    def __init__(self, feed: LiveFeed) -> None:
        self.feed = feed
        self.version: int | None = None
        self.cells = [-1] * NUM_CELLS

    def look(self) -> View | None:
        view = self.feed.view(self.version)
        if view is not None:
            self.version = view.version
            for index, value in cells_of_runs(view.runs, NUM_CELLS):
                self.cells[index] = value
        return view


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "condition not met"
        await asyncio.sleep(0.005)


@pytest.fixture
def engine():
    return Engine()


def run(engine: Engine, story) -> None:
    """Tell a story with a feed, in an event loop."""

    async def tell() -> None:
        feed = LiveFeed(engine.frame, lambda: None)
        await story(feed)

    asyncio.run(tell())


def test_each_viewer_catches_up_from_where_it_is(engine):
    async def story(feed):
        quick, slow = Viewer(feed), Viewer(feed)
        feed.enter()
        await until(quick.look)
        feed.enter()
        slow.look()
        for value in range(1, 5):
            engine.log.write([(value, value), (0, value)])
            await until(lambda: quick.look() and quick.cells == engine.log.cells)
        view = slow.look()
        assert view is not None and not view.is_full
        assert slow.cells == engine.log.cells == [4, 1, 2, 3, 4, 0]
        assert quick.look().runs == []
        feed.leave()
        feed.leave()

    run(engine, story)


def test_nobody_asks_the_engine_when_nobody_views(engine):
    async def story(feed):
        await asyncio.sleep(0)
        assert engine.asked == [] and feed.view(None) is None
        feed.enter()
        await until(lambda: len(engine.asked) >= 2)
        feed.leave()
        num_asked = len(engine.asked)
        # Whatever was under way is cancelled: no task is left that could ask.
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert len(engine.asked) == num_asked

        engine.log.write([(3, 9)])
        viewer = Viewer(feed)
        feed.enter()
        assert feed.view(None) is None, "what was known is old"
        await until(viewer.look)
        assert engine.asked[num_asked] == 0
        assert viewer.cells == [0, 0, 0, 9, 0, 0]
        feed.leave()

    run(engine, story)


def test_trouble_is_told_and_ends_with_everything_anew(engine):
    async def story(feed):
        feed.enter()
        viewer = Viewer(feed)
        await until(viewer.look)
        engine.error = EngineDeadError("no answer from the engine in 10 s")
        await until(lambda: feed.trouble)
        assert feed.trouble == "no answer from the engine in 10 s"
        engine.log = CellLog(NUM_CELLS, version=7)  # another one came up
        engine.log.write([(1, 2)])
        engine.error = None
        await until(lambda: feed.trouble is None)
        assert engine.asked[-1] == 0
        viewer.version = None
        viewer.look()
        assert viewer.cells == [0, 2, 0, 0, 0, 0]
        feed.leave()

    run(engine, story)


def test_a_frame_that_does_not_fit_is_trouble_and_no_end(engine, caplog):
    async def story(feed):
        feed.enter()
        engine.log = CellLog(NUM_CELLS + 1, version=5)
        await until(lambda: feed.trouble)
        engine.log = CellLog(NUM_CELLS, version=5)
        await until(lambda: feed.trouble is None)
        feed.leave()

    run(engine, story)
    assert "could not be read" in caplog.text


def test_news_are_told_while_requests_run_and_not_while_nothing_happens(engine):
    async def story(feed):
        feed.enter()
        await until(lambda: feed.number >= 3)
        engine.rows = ()
        num_asked = len(engine.asked)
        await until(lambda: len(engine.asked) >= num_asked + 2)
        number = feed.number
        await until(lambda: len(engine.asked) >= num_asked + 4)
        assert feed.number == number
        engine.log.write([(0, 1)])
        await until(lambda: feed.number == number + 1)
        feed.leave()

    run(engine, story)
