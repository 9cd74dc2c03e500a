"""What is kept of each request and of each run. All times are seconds of one monotonic clock."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestRecord:
    """One request as its client saw it.

    Times are in seconds since the start of the run. `sent_s`: when the request was sent; `due_s`:
    when it should have been (in an open loop its arrival, else the same). `chunk_s`: when each
    chunk with text arrived. `end_s`: arrival of the last chunk that belongs to the answer (text or
    finish reason, not usage); of a failed request, when it failed. `output_tokens` comes from the
    server's usage, or is the number of chunks with text where there is none (`has_usage`).
    """

    sent_s: float
    due_s: float
    end_s: float
    chunk_s: tuple[float, ...]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    has_usage: bool
    finish_reason: str | None
    turn: int
    text: str
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the answer came to its end."""
        return self.error is None

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: from sending to the first chunk with text; None without text."""
        return self.chunk_s[0] - self.sent_s if self.chunk_s else None

    @property
    def itl_s(self) -> tuple[float, ...]:
        """Inter-token latencies: times between successive chunks with text."""
        return tuple(b - a for a, b in zip(self.chunk_s, self.chunk_s[1:], strict=False))

    @property
    def e2el_s(self) -> float:
        """End-to-end latency: from sending to the end of the answer."""
        return self.end_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token: (E2EL - TTFT) / (output tokens - 1); None below two tokens."""
        if self.ttft_s is None or self.output_tokens < 2:
            return None
        return (self.e2el_s - self.ttft_s) / (self.output_tokens - 1)


@dataclass(frozen=True)
class GaugeSample:
    """What the server's /metrics said at one moment. `kv_usage` is a share from 0 to 1."""

    at_s: float
    kv_usage: float | None
    num_running: float | None
    num_waiting: float | None


@dataclass(frozen=True)
class Load:
    """How requests were offered: so many at a time, or so many a second (exactly one is set)."""

    concurrency: int | None = None
    request_rate: float | None = None
    burstiness: float = 1.0

    @property
    def label(self) -> str:
        """Short, for tables and plots."""
        if self.concurrency is not None:
            return f"concurrency {self.concurrency}"
        return f"{self.request_rate:g} req/s"


@dataclass(frozen=True)
class Run:
    """One measurement: all its requests in the order they were sent, and the server's gauges.

    `duration_s` lasts from the start until the last request ended. `started_at` is an ISO 8601
    date in UTC. `stopped_early` tells why sending ended before the limit, if it did.
    """

    load: Load
    started_at: str
    duration_s: float
    records: tuple[RequestRecord, ...]
    gauges: tuple[GaugeSample, ...] = ()
    stopped_early: str | None = None
