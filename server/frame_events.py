"""Frames of the dashboard as events, each written once for all who view."""

import time
from typing import Any

import msgspec

from ..engine.live_feed import LiveFeed, View
from ..engine.messages import Frame
from .sse import event_of


class FrameEvents:
    """Events of a feed's latest frame, by what a viewer has seen of the blocks.

    Hundreds of requests take milliseconds to write, and most viewers have seen the same.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._number = -1  # of the feed, when what follows was written
        self._requests: msgspec.Raw | None = None
        self._events: dict[int | None, tuple[bytes, int]] = {}

    def since(self, version: int | None) -> tuple[bytes, int] | None:
        """The event for who has seen the blocks at this version (None: never), and its version.

        None if nothing is known yet.
        """
        if self._number != self._feed.number:
            self._number = self._feed.number
            self._requests = None
            self._events.clear()
        if version not in self._events:
            view = self._feed.view(version)
            if view is None:
                return None
            if self._requests is None:
                self._requests = _written_requests(view.frame)
            body = msgspec.json.encode(_body(view, self._requests))
            self._events[version] = event_of(body), view.version
        return self._events[version]


def _body(view: View, requests: msgspec.Raw) -> dict[str, Any]:
    frame = view.frame
    return {
        "type": "frame",
        "at": round(time.time(), 3),
        "full": view.is_full,
        "runs": view.runs,
        "counts": {
            "free": frame.blocks_free,
            "cached": frame.blocks_cached,
            "used": frame.blocks_used,
            "shared": frame.blocks_shared,
        },
        "num_running": frame.num_running,
        "num_waiting": frame.num_waiting,
        "requests": requests,
    }


def _written_requests(frame: Frame) -> msgspec.Raw:
    rows = [_shortened(msgspec.to_builtins(row)) for row in frame.requests]
    return msgspec.Raw(msgspec.json.encode(rows))


def _shortened(values: list[Any]) -> list[Any]:
    """Milliseconds are enough."""
    return [round(value, 3) if isinstance(value, float) else value for value in values]
