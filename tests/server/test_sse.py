"""Event streams over a bare ASGI connection: errors, ends, and clients that leave."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel

from octavo.engine.errors import (
    BadRequestError,
    EngineDeadError,
    RequestFailedError,
    TimedOutError,
)
from octavo.server.sse import DONE, ClientGoneError, EventStream, event, until_disconnect

DEADLINE_S = 10
DISCONNECT = {"type": "http.disconnect"}


class Connection:
    """Both sides of a connection: the client `leave`s, what the application sends is kept."""

    def __init__(self, is_broken_after: int | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self._is_broken_after = is_broken_after

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return DISCONNECT

    async def send(self, message: dict[str, Any]) -> None:
        if self._is_broken_after is not None and len(self.sent) >= self._is_broken_after:
            raise OSError("the connection is closed")
        self.sent.append(message)
        await asyncio.sleep(0)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_S))


async def two_events() -> AsyncIterator[bytes]:
    yield event({"number": 1})
    yield event({"number": 2})


async def one_event_then(error: Exception) -> AsyncIterator[bytes]:
    yield event({"number": 1})
    raise error


async def endless(started: asyncio.Event, ended: asyncio.Event) -> AsyncIterator[bytes]:
    """Nothing ever comes; notes that it was begun, and that it was cancelled."""
    started.set()
    try:
        await asyncio.Event().wait()
        yield b""
    finally:
        ended.set()


def test_an_event_is_one_data_line_and_an_empty_one() -> None:
    class Point(BaseModel):
        x: int
        name: str | None

    assert event(Point(x=1, name=None)) == b'data: {"x":1,"name":null}\n\n'
    assert event({"text": "a\nb é"}) == 'data: {"text": "a\\nb é"}\n\n'.encode()


def test_a_stream_sends_headers_events_and_done() -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        connection = Connection()
        stream = EventStream(two_events(), lambda: closed.append(True))
        await stream({}, connection.receive, connection.send)
        start, *parts = connection.sent
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert headers[b"cache-control"] == b"no-cache"
        assert b"content-length" not in headers
        assert connection.body == event({"number": 1}) + event({"number": 2}) + DONE
        assert [part["more_body"] for part in parts] == [True, True, False]
        assert closed == [True]

    run(scenario)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (EngineDeadError("the engine process ended with signal 9"), 503, "signal 9"),
        (RequestFailedError("the engine failed to compute this request"), 500, "failed to compute"),
        (BadRequestError("no such token", "prompt"), 400, "no such token"),
        (ValueError("secret detail"), 500, "Internal server error"),
    ],
)
def test_an_error_after_the_start_is_an_event_followed_by_done(
    error: Exception, status: int, words: str
) -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        connection = Connection()
        stream = EventStream(one_event_then(error), lambda: closed.append(True))
        await stream({}, connection.receive, connection.send)
        first, failure, done, rest = connection.body.split(b"\n\n")
        assert (first + b"\n\n", done + b"\n\n", rest) == (event({"number": 1}), DONE, b"")
        told = json.loads(failure.removeprefix(b"data: "))["error"]
        assert set(told) == {"message", "type", "param", "code"}
        assert told["code"] == status
        assert words in told["message"]
        assert "secret" not in told["message"]
        assert closed == [True]

    run(scenario)


def test_a_client_that_leaves_cancels_the_events_while_none_comes() -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        started, ended = asyncio.Event(), asyncio.Event()
        connection = Connection()
        stream = EventStream(endless(started, ended), lambda: closed.append(True))
        answering = asyncio.create_task(stream({}, connection.receive, connection.send))
        await started.wait()
        assert closed == []
        connection.left.set()
        await answering
        assert ended.is_set()
        assert closed == [True]
        assert connection.body == b""

    run(scenario)


def test_close_is_called_though_the_client_was_gone_before_the_first_event() -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        connection = Connection()
        connection.left.set()
        stream = EventStream(two_events(), lambda: closed.append(True))
        await stream({}, connection.receive, connection.send)
        assert closed == [True]
        assert DONE not in connection.body

    run(scenario)


@pytest.mark.parametrize("num_messages", [0, 1, 2, 3])
def test_a_connection_that_breaks_on_sending_closes_the_stream_quietly(num_messages: int) -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        connection = Connection(is_broken_after=num_messages)
        stream = EventStream(two_events(), lambda: closed.append(True))
        await stream({}, connection.receive, connection.send)
        assert len(connection.sent) == num_messages
        assert closed == [True]

    run(scenario)


def test_close_is_called_if_the_server_itself_cancels_the_answer() -> None:
    async def scenario() -> None:
        closed: list[bool] = []
        started, ended = asyncio.Event(), asyncio.Event()
        connection = Connection()
        stream = EventStream(endless(started, ended), lambda: closed.append(True))
        answering = asyncio.create_task(stream({}, connection.receive, connection.send))
        await started.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert ended.is_set()
        assert closed == [True]

    run(scenario)


def test_work_that_ends_first_gives_its_result_and_stops_listening() -> None:
    async def scenario() -> None:
        listening = asyncio.Event()
        stopped = asyncio.Event()

        async def receive() -> dict[str, Any]:
            listening.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return DISCONNECT

        async def work() -> int:
            await listening.wait()
            return 42

        assert await until_disconnect(receive, work()) == 42
        assert stopped.is_set()

    run(scenario)


def test_work_that_fails_raises_its_own_error() -> None:
    async def scenario() -> None:
        async def work() -> None:
            raise BadRequestError("no")

        with pytest.raises(BadRequestError, match="no"):
            await until_disconnect(Connection().receive, work())

    run(scenario)


def test_a_disconnect_cancels_the_work_and_waits_for_its_cleaning_up() -> None:
    async def scenario() -> None:
        connection = Connection()
        cleaned: list[bool] = []

        async def work() -> None:
            connection.left.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        with pytest.raises(ClientGoneError):
            await until_disconnect(connection.receive, work())
        assert cleaned == [True]

    run(scenario)


def test_work_without_time_left_is_cancelled_for_it() -> None:
    async def scenario() -> None:
        connection = Connection()
        cleaned: list[bool] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        with pytest.raises(TimedOutError):
            await until_disconnect(connection.receive, work(), 0.01)
        assert cleaned == [True]

    run(scenario)


def test_what_is_left_of_a_body_is_no_disconnect() -> None:
    async def scenario() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]
        was_read = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            was_read.set()
            await asyncio.Event().wait()
            return DISCONNECT

        async def work() -> str:
            await was_read.wait()
            return "done"

        assert await until_disconnect(receive, work()) == "done"

    run(scenario)


def test_work_done_in_the_moment_of_the_disconnect_still_counts() -> None:
    async def scenario() -> None:
        connection = Connection()
        connection.left.set()

        async def work() -> str:
            return "done"

        assert await until_disconnect(connection.receive, work()) == "done"

    run(scenario)
