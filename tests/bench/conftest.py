"""A small HTTP server that answers as it is told, and frames streams as OpenAI does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Reply:
    """An answer: pieces of its body, each sent as one HTTP chunk, and how it ends."""

    pieces: list[bytes] = field(default_factory=list)
    status: int = 200
    drop: bool = False  # close the connection instead of ending the body
    hang: bool = False  # say no more, but keep the connection
    then_close: bool = False  # drop the connection, unannounced, when the next request arrives


Script = Callable[[dict[str, Any]], Awaitable[Reply]]


@dataclass
class ScriptedServer:
    """The running server: where it is, and what it was asked."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_connections: int = 0
    num_open: int = 0
    most_open: int = 0


def event(content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def completion_events(
    texts: list[str], *, prompt_tokens: int = 7, usage: bool = True, api: str = "completions"
) -> list[bytes]:
    """A whole stream: a chunk for each text, the finish reason, usage, [DONE]."""

    def choice(text: str | None, finish_reason: str | None) -> dict[str, Any]:
        if api == "chat":
            delta = {} if text is None else {"content": text}
            return {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"index": 0, "text": text or "", "finish_reason": finish_reason}

    events = [event({"choices": [choice(text, None)]}) for text in texts]
    events.append(event({"choices": [choice(None, "length")]}))
    if usage:
        counts = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(texts),
            "prompt_tokens_details": {"cached_tokens": 2},
        }
        events.append(event({"choices": [], "usage": counts}))
    return [*events, b"data: [DONE]\n\n"]


@asynccontextmanager
async def running(
    script: Script, metrics: Callable[[], str] | None = None
) -> AsyncIterator[ScriptedServer]:
    server_view = ScriptedServer("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_view.num_connections += 1
        closing: list[bool] = []  # filled once the next request is not to be answered
        try:
            while await answer(reader, writer, closing):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, closing: list[bool]
    ) -> bool:
        raw = await reader.readuntil(b"\r\n\r\n")
        if closing:
            return False
        head, *lines = raw.decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        if head.startswith("GET"):
            page = (metrics() if metrics else "").encode()
            status = 404 if metrics is None else 200
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(page)))
            writer.write(page)
            return True
        body = json.loads(content)
        server_view.bodies.append({"path": head.split()[1], **body})
        server_view.headers.append(headers)
        server_view.num_open += 1
        server_view.most_open = max(server_view.most_open, server_view.num_open)
        try:
            reply = await script(body)
            writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % reply.status)
            for piece in reply.pieces:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
            if reply.hang:
                await reader.read()
        finally:
            server_view.num_open -= 1
        if reply.then_close:
            closing.append(True)
        if not reply.drop and not reply.hang:
            writer.write(b"0\r\n\r\n")
        return not reply.drop and not reply.hang

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        server_view.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield server_view


@pytest.fixture
def scripted() -> Callable[..., AbstractAsyncContextManager[ScriptedServer]]:
    """`async with scripted(script) as server:` serves on a free port."""
    return running


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def stream() -> Callable[..., list[bytes]]:
    """The events of a whole stream, see `completion_events`."""
    return completion_events
