"""Runs: requests offered in a closed loop (so many at a time) or an open one (so many a second)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from time import perf_counter
from typing import Any

from .arrivals import arrival_times
from .client import Client
from .endpoint import Endpoint
from .errors import BenchError
from .gauges import GaugeSampler
from .records import Load, RequestRecord, Run
from .workloads import Conversation, Workload

MAX_SUCCESSIVE_FAILURES = 50
_PROGRESS_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Limit:
    """When sending ends: after `num_requests`, after `duration_s`, or at the first of both.

    Requests that are open then are read to their end. Raises BenchError if neither is given.
    """

    num_requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.num_requests is None and self.duration_s is None:
            raise BenchError("give a number of requests or a duration")
        if any(
            limit is not None and not limit > 0 for limit in (self.num_requests, self.duration_s)
        ):
            raise BenchError("the number of requests and the duration must be positive")


@dataclass(frozen=True)
class Progress:
    """How far a run is. `num_chunks` counts chunks with text, which are close to tokens."""

    num_done: int
    num_failed: int
    num_open: int
    num_chunks: int
    elapsed_s: float


OnProgress = Callable[[Progress], None]


async def run_closed_loop(
    endpoint: Endpoint,
    workload: Workload,
    *,
    concurrency: int,
    limit: Limit,
    seed: int | str = 0,
    on_progress: OnProgress | None = None,
) -> Run:
    """Keep `concurrency` requests open: each conversation that ends makes room for the next.

    A request that fails ends its conversation; it is recorded and counts towards the limit.
    `on_progress` is called twice a second and at the end. Raises BenchError for a concurrency
    below 1.
    """
    if concurrency < 1:
        raise BenchError(f"--concurrency must be at least 1, not {concurrency}")
    conversations = workload.conversations(seed)
    async with _measure(endpoint, limit, on_progress) as session:

        async def work() -> None:
            while session.may_start():
                await session.converse(next(conversations))

        await _all(asyncio.create_task(work()) for _ in range(concurrency))
    return session.result(Load(concurrency=concurrency))


async def run_open_loop(
    endpoint: Endpoint,
    workload: Workload,
    *,
    request_rate: float,
    limit: Limit,
    burstiness: float = 1.0,
    seed: int | str = 0,
    on_progress: OnProgress | None = None,
) -> Run:
    """Start conversations at random times, `request_rate` a second, however many are open.

    See `arrival_times` for rate and burstiness, `run_closed_loop` for the rest. Further turns of a
    conversation follow as soon as the answer before is there, so with several turns the rate is
    that of conversations.
    """
    conversations = workload.conversations(seed)
    arrivals = arrival_times(request_rate, burstiness, seed)
    async with _measure(endpoint, limit, on_progress) as session:
        tasks: list[asyncio.Task[None]] = []
        for due_s in arrivals:
            if limit.duration_s is not None and due_s >= limit.duration_s:
                break
            delay_s = due_s - session.elapsed_s()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            if not session.may_start():
                break
            turns = session.converse(next(conversations), due_s)
            tasks.append(asyncio.create_task(turns))
        await _all(iter(tasks))
    return session.result(Load(request_rate=request_rate, burstiness=burstiness))


async def warm_up(
    endpoint: Endpoint, workload: Workload, num_requests: int, *, seed: int | str = 0
) -> None:
    """Send requests, one at a time, whose prompts no run with an integer seed has.

    Raises BenchError if one fails: an endpoint that cannot answer them is not worth measuring.
    """
    if num_requests < 1:
        return
    run = await run_closed_loop(
        endpoint,
        workload,
        concurrency=1,
        limit=Limit(num_requests=num_requests),
        seed=f"{seed} warm-up",
    )
    for record in run.records:
        if record.error is not None:
            raise BenchError(f"a warm-up request to {endpoint.url} failed: {record.error}")


class _Session:
    """One run under way."""

    def __init__(self, endpoint: Endpoint, limit: Limit, epoch: float, client: Client) -> None:
        self._limit = limit
        self._epoch = epoch
        self._client = client
        self._num_promised = 0
        self._num_sent = 0
        self._num_failed = 0
        self._num_successive_failures = 0
        self._records: list[RequestRecord] = []
        self._stopped_early: str | None = None
        self.sampler = GaugeSampler(endpoint, epoch)
        self.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._duration_s = 0.0

    def elapsed_s(self) -> float:
        return perf_counter() - self._epoch

    def may_start(self) -> bool:
        """Whether the limits allow another conversation now."""
        num = self._limit.num_requests
        return self._may_go_on() and (num is None or self._num_promised < num)

    def converse(
        self, conversation: Conversation, due_s: float | None = None
    ) -> Coroutine[Any, Any, None]:
        """Send the turns one after another, as far as the limits allow.

        They count towards the limit from now on, so that conversations that start meanwhile do not
        take the place of later turns.
        """
        num_turns = len(conversation.turns)
        if self._limit.num_requests is not None:
            num_turns = min(num_turns, self._limit.num_requests - self._num_promised)
        self._num_promised += num_turns
        return self._send_turns(conversation, num_turns, due_s)

    async def _send_turns(
        self, conversation: Conversation, num_turns: int, due_s: float | None
    ) -> None:
        answers: list[str] = []
        while len(answers) < num_turns and (not answers or self._may_go_on()):
            self._num_sent += 1
            record = await self._client.send(conversation, answers, None if answers else due_s)
            self._keep(record)
            if not record.ok:
                self._num_promised -= num_turns - len(answers) - 1
                return
            answers.append(record.text)

    def _may_go_on(self) -> bool:
        if self._stopped_early is not None:
            return False
        return self._limit.duration_s is None or self.elapsed_s() < self._limit.duration_s

    def _keep(self, record: RequestRecord) -> None:
        self._records.append(record)
        if record.ok:
            self._num_successive_failures = 0
            return
        self._num_failed += 1
        self._num_successive_failures += 1
        if self._num_successive_failures >= MAX_SUCCESSIVE_FAILURES:
            self._stopped_early = f"{MAX_SUCCESSIVE_FAILURES} requests in a row failed"

    def progress(self) -> Progress:
        return Progress(
            num_done=len(self._records),
            num_failed=self._num_failed,
            num_open=self._num_sent - len(self._records),
            num_chunks=self._client.num_chunks,
            elapsed_s=self.elapsed_s(),
        )

    def close(self) -> None:
        self._duration_s = max((record.end_s for record in self._records), default=0.0)

    def result(self, load: Load) -> Run:
        return Run(
            load=load,
            started_at=self.started_at,
            duration_s=self._duration_s,
            records=tuple(sorted(self._records, key=lambda record: record.sent_s)),
            gauges=tuple(s for s in self.sampler.samples if s.at_s <= self._duration_s),
            stopped_early=self._stopped_early,
        )


@asynccontextmanager
async def _measure(
    endpoint: Endpoint, limit: Limit, on_progress: OnProgress | None
) -> AsyncIterator[_Session]:
    """A session with its sampler and progress reports, which end with it."""
    epoch = perf_counter()
    async with Client(endpoint, epoch) as client:
        session = _Session(endpoint, limit, epoch, client)
        helpers = [asyncio.create_task(session.sampler.sample_forever())]
        if on_progress is not None:
            helpers.append(asyncio.create_task(_report(session, on_progress)))
        try:
            yield session
            session.close()
        finally:
            failures = await _cancel(helpers)
        if failures:
            raise failures[0]
        if on_progress is not None:
            on_progress(session.progress())


async def _report(session: _Session, on_progress: OnProgress) -> None:
    while True:
        on_progress(session.progress())
        await asyncio.sleep(_PROGRESS_INTERVAL_S)


async def _all(tasks: Iterator[asyncio.Task[None]]) -> None:
    """Wait for all; if one raises, or this is cancelled, the others are cancelled too."""
    waiting = list(tasks)
    try:
        await asyncio.gather(*waiting)
    finally:
        await _cancel(waiting)


async def _cancel(tasks: list[asyncio.Task[None]]) -> list[BaseException]:
    """Cancel what still runs, wait for all, and return what went wrong in them."""
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [o for o in outcomes if o is not None and not isinstance(o, asyncio.CancelledError)]
