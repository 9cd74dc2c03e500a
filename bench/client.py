"""Sends one request and writes down when its tokens came."""

import json
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType

import httpx
import msgspec

from .endpoint import Endpoint
from .errors import BenchError
from .records import RequestRecord
from .stream import DONE, Chunk, EventLines, Usage, error_text, parse_chunk
from .transport import StreamTransport
from .workloads import Conversation


class Client:
    """Streams completions from one endpoint over as many connections as are needed.

    `epoch` is the `time.perf_counter()` value that the times of all records count from.
    """

    def __init__(self, endpoint: Endpoint, epoch: float) -> None:
        self._endpoint = endpoint
        self._epoch = epoch
        self._http = httpx.AsyncClient(
            headers={**endpoint.headers, "Accept-Encoding": "identity"},
            transport=StreamTransport(timeout_s=endpoint.timeout_s),
        )
        self.num_chunks = 0

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def send(
        self, conversation: Conversation, answers: Sequence[str], due_s: float | None = None
    ) -> RequestRecord:
        """Send the turn after `answers` and read its answer to the end.

        Whatever goes wrong with the request is in the record's `error`; nothing is raised for it.
        """
        content = json.dumps(self._endpoint.body(conversation, answers)).encode()
        answer = _Answer()
        error: str | None = None
        sent = perf_counter()
        try:
            async with self._http.stream("POST", self._endpoint.url, content=content) as response:
                if response.status_code != 200:
                    raise BenchError(_refusal(response.status_code, await response.aread()))
                async for piece in response.aiter_raw():
                    now = perf_counter()
                    self.num_chunks += answer.take(piece, now)
            answer.check_complete()
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}"
        except BenchError as failure:
            error = str(failure)
        end = perf_counter() if error is not None or answer.end is None else answer.end
        usage = answer.usage
        sent_s = sent - self._epoch
        return RequestRecord(
            sent_s=sent_s,
            due_s=sent_s if due_s is None else due_s,
            end_s=end - self._epoch,
            chunk_s=tuple(at - self._epoch for at in answer.chunk_times),
            prompt_tokens=0 if usage is None else usage.prompt_tokens,
            output_tokens=len(answer.chunk_times) if usage is None else usage.completion_tokens,
            cached_tokens=None if usage is None else usage.cached_tokens,
            has_usage=usage is not None,
            finish_reason=answer.finish_reason,
            turn=len(answers),
            text="".join(answer.texts),
            error=error,
        )


class _Answer:
    """One streamed answer, gathered piece by piece."""

    def __init__(self) -> None:
        self._lines = EventLines()
        self._is_done = False
        self.chunk_times: list[float] = []
        self.texts: list[str] = []
        self.end: float | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None

    def take(self, piece: bytes, now: float) -> int:
        """Take bytes that arrived at `now`; returns how many chunks with text they completed."""
        before = len(self.texts)
        for payload in self._lines.feed(piece):
            if payload == DONE:
                self._is_done = True
            else:
                self._take_chunk(parse_chunk(payload), now)
        return len(self.texts) - before

    def _take_chunk(self, chunk: Chunk, now: float) -> None:
        if chunk.text:
            self.texts.append(chunk.text)
            self.chunk_times.append(now)
        if chunk.has_choice:
            self.end = now
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = chunk.usage or self.usage

    def check_complete(self) -> None:
        """Raise BenchError if the stream ended before the answer did."""
        if not self._is_done and self.finish_reason is None:
            raise BenchError("the stream ended without a finish reason or [DONE]")
        if self.end is None:
            raise BenchError("the stream had no completion chunk")


def _refusal(status: int, content: bytes) -> str:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"HTTP {status}: {content[:300].decode(errors='replace')}"
    error = body.get("error", body) if isinstance(body, dict) else body
    return f"HTTP {status}: {error_text(error)}"
