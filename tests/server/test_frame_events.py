"""Frames as events: each viewer gets what it has not seen, and nothing is written twice."""

import json

import pytest

from octavo.engine.live_feed import View
from octavo.engine.messages import Frame, RequestRow
from octavo.paged_cache import CellLog
from octavo.server import frame_events
from octavo.server.frame_events import FrameEvents

NUM_CELLS = 6


class Feed:
    """What `LiveFeed` is to its readers, driven by hand."""

    def __init__(self) -> None:
        self.log = CellLog(NUM_CELLS, version=5)
        self.number = 0
        self.rows: tuple[RequestRow, ...] | None = None

    def happens(self, cells, *rows):
        self.log.write(cells)
        self.rows = rows
        self.number += 1

    def view(self, version):
        if self.rows is None:
            return None
        frame = Frame(
            version=self.log.version,
            is_full=False,
            runs=[],
            blocks_free=3,
            blocks_cached=2,
            blocks_used=1,
            blocks_shared=0,
            num_running=len(self.rows),
            num_waiting=0,
            requests=self.rows,
            ticket=0,
        )
        return View(frame, version is None, self.log.runs_since(version), self.log.version)


def row(name, **fields):
    return RequestRow(owner=1, request_id=name, stage="decode", prompt_tokens=3, **fields)


def read(event):
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    return json.loads(event.removeprefix(b"data: "))


@pytest.fixture
def feed():
    return Feed()


def test_nothing_is_known_yet(feed):
    assert FrameEvents(feed).since(None) is None


def test_a_viewer_gets_what_it_has_not_seen(feed):
    events = FrameEvents(feed)
    feed.happens([(0, 6)], row("a", queue_s=0.123456))
    event, version = events.since(None)
    first = read(event)
    assert (first["type"], first["full"], first["runs"]) == ("frame", True, [0, 1, 6, 0, 5, 0])
    assert first["counts"] == {"free": 3, "cached": 2, "used": 1, "shared": 0}
    assert (first["num_running"], first["num_waiting"]) == (1, 0)
    assert first["requests"][0][:3] == [1, "a", "decode"]
    assert 0.123 in first["requests"][0]
    feed.happens([(3, 10)], row("b"), row("c"))
    event, last = events.since(version)
    second = read(event)
    assert (second["full"], second["runs"]) == (False, [3, 1, 10])
    assert [one[1] for one in second["requests"]] == ["b", "c"]
    assert last > version


def test_many_viewers_share_one_event_and_all_of_them_the_requests(feed, monkeypatch):
    written = []
    write = frame_events._written_requests
    monkeypatch.setattr(
        frame_events, "_written_requests", lambda frame: written.append(frame) or write(frame)
    )
    events = FrameEvents(feed)
    feed.happens([(0, 6)], row("a"))
    _, version = events.since(None)
    feed.happens([(1, 6)], row("b"))
    up_to_date = [events.since(version)[0] for _ in range(30)]
    late = events.since(None)[0]
    assert len({id(event) for event in up_to_date}) == 1
    assert read(late)["requests"] == read(up_to_date[0])["requests"]
    assert read(late)["full"] and not read(up_to_date[0])["full"]
    assert len(written) == 2


def test_a_name_cannot_break_out_of_its_event(feed):
    feed.happens([], row('a\n\ndata: {"type": "hello"}\r\n\u2028"'))
    event, _ = FrameEvents(feed).since(None)
    assert read(event)["requests"][0][1] == 'a\n\ndata: {"type": "hello"}\r\n\u2028"'
