"""A run in figures, defined as `vllm bench serve` defines them unless said otherwise here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import BenchError
from .records import RequestRecord, Run

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
GOODPUT_METRICS = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Distribution:
    """Latencies in milliseconds. Percentiles interpolate linearly between neighbours."""

    num: int
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    percentiles_ms: Mapping[int, float]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Distribution | None":
        """The distribution of values in seconds; None if there are none."""
        values = np.fromiter(seconds, dtype=np.float64) * 1000.0
        if not values.size:
            return None
        marks = np.percentile(values, PERCENTILES)
        return cls(
            num=int(values.size),
            mean_ms=float(values.mean()),
            std_ms=float(values.std()),
            min_ms=float(values.min()),
            max_ms=float(values.max()),
            percentiles_ms={p: float(v) for p, v in zip(PERCENTILES, marks, strict=True)},
        )

    @property
    def median_ms(self) -> float:
        """The 50th percentile."""
        return self.percentiles_ms[50]

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return self.percentiles_ms[99]


@dataclass(frozen=True)
class Goodput:
    """Latency limits that a request must keep to count as good, in milliseconds.

    `itl` limits the mean of the request's inter-token latencies. A request keeps the limit of a
    latency that it does not have (such as the TPOT of a single token).
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    itl_ms: float | None = None
    e2el_ms: float | None = None

    @classmethod
    def parse(cls, terms: Sequence[str]) -> "Goodput":
        """From terms like `ttft:500`, limits in milliseconds. Raises BenchError for others."""
        limits: dict[str, float] = {}
        for term in terms:
            name, _, value = term.partition(":")
            try:
                limit = float(value)
            except ValueError:
                limit = 0.0
            if name not in GOODPUT_METRICS or not limit > 0:
                raise BenchError(
                    f"--goodput {term!r}: write one of {', '.join(GOODPUT_METRICS)}, a colon and "
                    "a limit in ms, like ttft:500"
                )
            limits[f"{name}_ms"] = limit
        return cls(**limits)

    def is_met(self, record: RequestRecord) -> bool:
        """Whether the request succeeded within all limits."""
        itl = record.itl_s
        measured = (
            (self.ttft_ms, record.ttft_s),
            (self.tpot_ms, record.tpot_s),
            (self.itl_ms, sum(itl) / len(itl) if itl else None),
            (self.e2el_ms, record.e2el_s),
        )
        return record.ok and all(
            limit is None or value is None or value * 1000.0 <= limit for limit, value in measured
        )


@dataclass(frozen=True)
class Summary:
    """The figures of one run. Only successful requests count, but for `failed`.

    - `duration_s`: from the start until the last request ended, also a failed one. With a limit in
      seconds this includes reading the last answers to their end.
    - throughputs: requests and tokens of successful requests, divided by `duration_s`.
    - `request_goodput`: requests within the limits of `Goodput`, divided by `duration_s`.
    - `peak_output_throughput`: most output tokens in one of the whole seconds since the start. The
      tokens of a request are spread evenly over its chunks, as a chunk may hold several.
    - `peak_concurrency`: most requests open at one moment, failed ones included. (`vllm bench
      serve` counts all that were open at some time within the same second.)
    - `ttft`, `tpot`, `e2el`: over requests; `itl`: over all gaps of all requests. See
      `RequestRecord` for each.
    - `late`: how long after its arrival time a request of an open loop was sent. Above a few
      milliseconds the load generator is short of CPU and the rate was not what it should be.
    - `cached_tokens`: prompt tokens found in the prefix cache; None where the server does not tell.
    """

    successful: int
    failed: int
    duration_s: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None
    request_throughput: float
    request_goodput: float | None
    output_throughput: float
    peak_output_throughput: float
    total_throughput: float
    peak_concurrency: int
    ttft: Distribution | None
    tpot: Distribution | None
    itl: Distribution | None
    e2el: Distribution | None
    late: Distribution | None
    errors: Mapping[str, int]


def summarise(run: Run, goodput: Goodput | None = None) -> Summary:
    """The figures of a run, with the goodput if limits are given."""
    good = [record for record in run.records if record.ok]
    duration_s = run.duration_s
    output_tokens = sum(record.output_tokens for record in good)
    input_tokens = sum(record.prompt_tokens for record in good)
    cached = [record.cached_tokens for record in good if record.cached_tokens is not None]
    errors: dict[str, int] = {}
    for record in run.records:
        if record.error is not None:
            errors[record.error] = errors.get(record.error, 0) + 1
    is_open_loop = run.load.request_rate is not None

    def per_second(amount: float) -> float:
        return amount / duration_s if duration_s > 0 else 0.0

    return Summary(
        successful=len(good),
        failed=len(run.records) - len(good),
        duration_s=duration_s,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=sum(cached) if cached else None,
        request_throughput=per_second(len(good)),
        request_goodput=(
            None if goodput is None else per_second(sum(goodput.is_met(r) for r in good))
        ),
        output_throughput=per_second(output_tokens),
        peak_output_throughput=max(tokens_by_second(run), default=0.0),
        total_throughput=per_second(input_tokens + output_tokens),
        peak_concurrency=peak_concurrency(run.records),
        ttft=Distribution.of(r.ttft_s for r in good if r.ttft_s is not None),
        tpot=Distribution.of(r.tpot_s for r in good if r.tpot_s is not None),
        itl=Distribution.of(gap for r in good for gap in r.itl_s),
        e2el=Distribution.of(r.e2el_s for r in good),
        late=Distribution.of(r.sent_s - r.due_s for r in run.records) if is_open_loop else None,
        errors=errors,
    )


def tokens_by_second(run: Run) -> list[float]:
    """Output tokens that arrived in each whole second since the start (the last one is partial)."""
    buckets = [0.0] * (int(run.duration_s) + 1 if run.records else 0)
    for record in run.records:
        if record.ok and record.chunk_s:
            tokens_per_chunk = record.output_tokens / len(record.chunk_s)
            for at_s in record.chunk_s:
                buckets[int(at_s)] += tokens_per_chunk
    return buckets


def peak_concurrency(records: Sequence[RequestRecord]) -> int:
    """Most requests that were open at one moment."""
    changes = [(record.sent_s, 1) for record in records]
    changes += [(record.end_s, -1) for record in records]
    peak = now = 0
    for _, change in sorted(changes):  # at equal times the end comes first
        now += change
        peak = max(peak, now)
    return peak
