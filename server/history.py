"""Ten minutes of figures, one sample a second, read from the metrics themselves."""

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..engine.async_engine import AsyncEngine
from ..engine.errors import EngineDeadError
from ..engine.messages import EngineStats
from .metrics import ServerMetrics

logger = logging.getLogger(__name__)

INTERVAL_S = 1
NUM_SAMPLES = 600
STATS_TIMEOUT_S = 5.0

Buckets = list[tuple[float, float]]
"""(upper bound, how many were at most that), ascending, the last bound infinite."""


@dataclass(frozen=True)
class Sample:
    """One second. Seconds and shares; None where nothing happened, or nothing was known."""

    at: float  # Unix seconds
    generation_tokens_per_s: float
    prompt_tokens_per_s: float
    hit_rate: float | None
    ttft_p50: float | None
    ttft_p95: float | None
    itl_p50: float | None
    itl_p95: float | None
    num_running: int | None
    num_waiting: int | None
    kv_usage: float | None
    finished_per_s: float
    failed_per_s: float
    preemptions_per_s: float

    def values(self) -> list[float | None]:
        """The fields in the order of `COLUMNS`."""
        return [getattr(self, name) for name in COLUMNS]


COLUMNS = [field.name for field in dataclasses.fields(Sample)]


@dataclass(frozen=True)
class _Reading:
    """The metrics' counters at an instant."""

    at: float  # monotonic
    clock: float  # Unix seconds, of the same instant
    generation_tokens: float
    prompt_tokens: float
    queries: float
    hits: float
    preemptions: float
    finished: float
    failed: float
    ttft: Buckets
    itl: Buckets


class History:
    """Samples the metrics for as long as `run` runs; `tell` is called after each sample."""

    def __init__(
        self, metrics: ServerMetrics, engine: AsyncEngine, tell: Callable[[], None]
    ) -> None:
        self._metrics = metrics
        self._engine = engine
        self._tell = tell
        self._stats: EngineStats | None = None
        self._samples: deque[Sample] = deque(maxlen=NUM_SAMPLES)
        self.num_taken = 0

    def since(self, num_taken: int) -> list[Sample]:
        """The samples after the first `num_taken` ones, as far as they are kept."""
        num_new = min(self.num_taken - num_taken, len(self._samples))
        return list(self._samples)[len(self._samples) - num_new :]

    async def run(self) -> None:
        """Take a sample every second, until cancelled."""
        before = self._read()
        asking: asyncio.Task[None] | None = None
        while True:
            if not self._is_idle and (asking is None or asking.done()):
                asking = asyncio.create_task(self._ask())
            await asyncio.sleep(INTERVAL_S)
            try:
                now = self._read()
                self._samples.append(_sample(before, now, self._stats))
                before = now
            except Exception:
                logger.exception("a sample for the dashboard could not be taken")
                continue
            self.num_taken += 1
            self._tell()

    async def _ask(self) -> None:
        """Ask the engine, which answers between two steps: a long one must not shift seconds."""
        try:
            self._stats = await self._engine.stats(STATS_TIMEOUT_S)
        except EngineDeadError:
            self._stats = None

    @property
    def _is_idle(self) -> bool:
        """Whether nothing can have changed since the last answer."""
        known, status = self._stats, self._engine.status
        return (
            known is not None
            and not (known.num_running or known.num_waiting or known.blocks_used)
            and status.is_ready
            and status.num_open == 0
        )

    def _read(self) -> _Reading:
        metrics = self._metrics
        metrics.add_up()
        finished = metrics.counts_by("request_success", "finished_reason")
        return _Reading(
            at=time.monotonic(),
            clock=time.time(),
            generation_tokens=metrics.count("generation_tokens"),
            prompt_tokens=metrics.count("prompt_tokens"),
            queries=metrics.count("prefix_cache_queries"),
            hits=metrics.count("prefix_cache_hits"),
            preemptions=metrics.count("num_preemptions"),
            finished=sum(finished.values()),
            failed=finished.get("error", 0.0),
            ttft=metrics.buckets("time_to_first_token_seconds"),
            itl=metrics.buckets("inter_token_latency_seconds"),
        )


def quantile(before: Buckets, now: Buckets, q: float) -> float | None:
    """The q-quantile of what was observed between two readings of a histogram.

    Linear within a bucket, as Prometheus' histogram_quantile; None if nothing was observed.
    """
    counts = [(bound, n - m) for (bound, n), (_, m) in zip(now, before, strict=True)]
    total = counts[-1][1]
    if total <= 0:
        return None
    rank, lower, below = q * total, 0.0, 0.0
    for bound, at_most in counts:
        if at_most >= rank and at_most > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (at_most - below)
        lower, below = bound, at_most
    return lower


def _sample(before: _Reading, now: _Reading, stats: EngineStats | None) -> Sample:
    seconds = now.at - before.at
    queries = now.queries - before.queries
    return Sample(
        at=round(now.clock, 3),
        generation_tokens_per_s=(now.generation_tokens - before.generation_tokens) / seconds,
        prompt_tokens_per_s=(now.prompt_tokens - before.prompt_tokens) / seconds,
        hit_rate=(now.hits - before.hits) / queries if queries > 0 else None,
        ttft_p50=quantile(before.ttft, now.ttft, 0.5),
        ttft_p95=quantile(before.ttft, now.ttft, 0.95),
        itl_p50=quantile(before.itl, now.itl, 0.5),
        itl_p95=quantile(before.itl, now.itl, 0.95),
        num_running=None if stats is None else stats.num_running,
        num_waiting=None if stats is None else stats.num_waiting,
        kv_usage=None if stats is None else stats.kv_usage,
        finished_per_s=(now.finished - before.finished) / seconds,
        failed_per_s=(now.failed - before.failed) / seconds,
        preemptions_per_s=(now.preemptions - before.preemptions) / seconds,
    )
