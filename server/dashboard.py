"""What the dashboard shows: one stream of blocks, requests and figures, and single blocks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from .. import __version__
from ..engine.async_engine import AsyncEngine
from ..engine.errors import NotReadyError, OverloadedError
from ..engine.live_feed import LiveFeed
from ..engine.messages import RequestRow
from .frame_events import FrameEvents
from .history import COLUMNS, INTERVAL_S, History, Sample
from .keys import KeyRing
from .metrics import ServerMetrics
from .responses import ANSWERS_OF_ERRORS
from .service import ServiceOfApp
from .sse import EventStream, event

MAX_VIEWERS = 32
REQUEST_COLUMNS = [
    "owner",
    "id",
    "stage",
    "prompt_tokens",
    "computed_tokens",
    "cached_tokens",
    "output_tokens",
    "max_tokens",
    "num_blocks",
    "preemptions",
    "queue_s",
    "prefill_s",
    "decode_s",
]
assert len(REQUEST_COLUMNS) == len(RequestRow.__struct_fields__)

router = APIRouter(prefix="/dashboard", include_in_schema=False, responses=ANSWERS_OF_ERRORS)


class HolderOfBlock(BaseModel):
    """A request that holds a block, as the block number `position` of its table."""

    id: str
    position: int


class BlockAnswer(BaseModel):
    """Answer of GET /dashboard/blocks/N.

    `text`, and the `hash` that other processes know the content by, are for holders of the admin
    key. Others get a hash that equals another block's where the contents are equal, no more.
    """

    block: int
    state: str
    holders: list[HolderOfBlock]
    hash: str | None
    text: str | None


class Dashboard:
    """The live feed and the history of one server, and who views them."""

    def __init__(self, engine: AsyncEngine, metrics: ServerMetrics) -> None:
        self._engine = engine
        self._news = asyncio.Event()
        self._is_closed = False
        self._history = History(metrics, engine, self._tell)
        self._feed = LiveFeed(engine.frame, self._tell)
        self._frames = FrameEvents(self._feed)
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep the history from now on."""
        self._sampling = asyncio.create_task(self._history.run(), name="history")

    def close(self) -> None:
        """End every stream: the server does."""
        self._is_closed = True
        if self._sampling is not None:
            self._sampling.cancel()
        self._tell()

    def open(self, *, is_admin: bool, may_stay: Callable[[], bool]) -> EventStream:
        """A stream for one more viewer, for as long as they may see it.

        Raises OverloadedError, or NotReadyError at the end.
        """
        if self._is_closed:
            raise NotReadyError("the server is shutting down")
        if self._feed.num_viewers >= MAX_VIEWERS:
            raise OverloadedError(f"{MAX_VIEWERS} dashboards are open, which is the limit")
        self._feed.enter()
        return EventStream(self._events(is_admin, may_stay), self._feed.leave, last=b"")

    async def _events(self, is_admin: bool, may_stay: Callable[[], bool]) -> AsyncIterator[bytes]:
        num_taken, number = self._history.num_taken, -1
        version: int | None = None
        num_blocks = self._engine.status.num_blocks
        yield event(self._hello(is_admin))
        # An engine that came up with another number of blocks ends the stream; viewers come again.
        # So does a key that was taken back: there is a sample each second to find out.
        while not self._is_closed and self._engine.status.num_blocks == num_blocks and may_stay():
            news = self._news  # before looking, so that nothing is missed
            for sample in self._history.since(num_taken):
                yield event({"type": "sample", "values": _rounded(sample)})
            num_taken = self._history.num_taken
            if number != self._feed.number:
                number = self._feed.number
                if self._feed.trouble is not None:
                    version = None  # all cells, when there are any again
                    yield event({"type": "trouble", "message": self._feed.trouble})
                elif (written := self._frames.since(version)) is not None:
                    frame, version = written
                    yield frame
            await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _hello(self, is_admin: bool) -> dict[str, Any]:
        engine = self._engine
        return {
            "type": "hello",
            "version": __version__,
            "model": engine.info.served_names[0],
            "max_model_len": engine.info.max_model_len,
            "is_admin": is_admin,
            "num_blocks": engine.status.num_blocks,
            "block_size": engine.config.block_size,
            "max_num_seqs": engine.config.max_num_seqs,
            "max_queued_requests": engine.settings.max_queued_requests,
            "request_columns": REQUEST_COLUMNS,
            "sample_columns": COLUMNS,
            "sample_interval_s": INTERVAL_S,
            "history": [_rounded(sample) for sample in self._history.since(0)],
        }


@router.get("/events", response_class=Response)
async def events(request: Request) -> Response:
    """Everything that the dashboard shows, as server-sent events, for as long as one looks."""
    dashboard, keys = request.app.state.dashboard, request.app.state.keys
    assert isinstance(dashboard, Dashboard) and isinstance(keys, KeyRing)
    digest = getattr(request.state, "key_digest", None)
    return dashboard.open(is_admin=request.state.is_admin, may_stay=lambda: keys.lets_in(digest))


@router.get("/blocks/{block_id}")
async def block(block_id: int, request: Request, service: ServiceOfApp) -> BlockAnswer:
    """Who holds a block, and a hash of its content; its text for who has the admin key."""
    is_admin = request.state.is_admin
    detail = await service.engine.block(block_id, with_content=is_admin)
    text = None
    if detail.token_ids:
        tokenizer = service.engine.tokenizer
        text = tokenizer.decode(list(detail.token_ids), skip_special_tokens=False)
    return BlockAnswer(
        block=block_id,
        state=detail.state,
        holders=[HolderOfBlock(id=one.request_id, position=one.position) for one in detail.holders],
        hash=detail.content_hash,
        text=text,
    )


def _rounded(sample: Sample) -> list[Any]:
    return [round(v, 5) if isinstance(v, float) else v for v in sample.values()]
