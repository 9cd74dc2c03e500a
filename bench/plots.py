"""The charts of a report, made from runs."""

import math
from collections.abc import Sequence

from .charts import Axis, Chart, Histogram, LineChart, Mark, Series
from .records import Run
from .scales import format_number
from .summary import Distribution, Summary, tokens_by_second

_MARKS = (50, 90, 99)
_LOG_FROM_RATIO = 20.0  # between largest and smallest value, beyond which a log axis shows more
_MAX_POINTS = 240


def sweep_charts(runs: Sequence[Run], summaries: Sequence[Summary]) -> list[Chart]:
    """Throughput and latencies against the load, for runs that differ in nothing else."""
    axis, loads = _load_axis(runs)
    order = sorted(range(len(runs)), key=lambda number: loads[number])
    x = [loads[number] for number in order]
    ordered = [summaries[number] for number in order]
    charts: list[Chart] = [
        LineChart(
            "Output token throughput",
            axis,
            Axis("tokens/s", low=0),
            [Series("output", x, [s.output_throughput for s in ordered], style="line+points")],
        )
    ]
    for title, found in (
        ("Time to first token (TTFT)", [s.ttft for s in ordered]),
        ("Inter-token latency (ITL)", [s.itl for s in ordered]),
        ("End-to-end latency (E2EL)", [s.e2el for s in ordered]),
    ):
        lines = [
            Series(
                name,
                x,
                [math.nan if d is None else d.percentiles_ms[percentile] for d in found],
                style="line+points",
            )
            for name, percentile in (("p99", 99), ("median", 50))
        ]
        shown = [y for line in lines for y in line.y if y > 0]
        is_log = bool(shown) and max(shown) / min(shown) > _LOG_FROM_RATIO
        y = Axis("ms (log scale)", is_log=True) if is_log else Axis("ms", low=0)
        charts.append(LineChart(title, axis, y, lines))
    return charts


def run_charts(run: Run, summary: Summary) -> list[Chart]:
    """Distributions of latencies and what happened over time; charts without data are left out."""
    good = [record for record in run.records if record.ok]
    charts: list[Chart] = []
    for title, distribution, values in (
        ("Time to first token (TTFT)", summary.ttft, [r.ttft_s for r in good]),
        ("Inter-token latency (ITL)", summary.itl, [gap for r in good for gap in r.itl_s]),
        ("End-to-end latency (E2EL)", summary.e2el, [r.e2el_s for r in good]),
    ):
        if distribution is not None:
            milliseconds = [1000.0 * value for value in values if value is not None]
            charts.append(latency_histogram(title, distribution, milliseconds))
    if run.records:
        charts.append(_throughput_over_time(run))
    if any(sample.kv_usage is not None for sample in run.gauges):
        charts.append(_kv_usage_over_time(run))
    if any(sample.num_running is not None for sample in run.gauges):
        charts.append(_requests_over_time(run))
    return charts


def latency_histogram(title: str, distribution: Distribution, values_ms: Sequence[float]) -> Chart:
    """A histogram with its quantiles; on a log axis if the values spread widely."""
    marks = [
        Mark(value, f"p{percentile} {format_number(value)}")
        for percentile, value in distribution.percentiles_ms.items()
        if percentile in _MARKS
    ]
    low, high = distribution.percentiles_ms[1], distribution.max_ms
    is_log = low > 0 and high / low > _LOG_FROM_RATIO
    axis = Axis("ms (log scale)" if is_log else "ms", is_log=is_log, low=low if is_log else None)
    return Histogram(title, axis, values_ms, marks)


def _load_axis(runs: Sequence[Run]) -> tuple[Axis, list[float]]:
    concurrencies = [run.load.concurrency for run in runs]
    if all(concurrency is not None for concurrency in concurrencies):
        loads = [float(concurrency or 0) for concurrency in concurrencies]
        label = "concurrent requests"
    else:
        loads = [run.load.request_rate or 0.0 for run in runs]
        label = "requests/s"
    finite = [load for load in loads if math.isfinite(load)]
    beyond = 2 * max(finite, default=1.0)  # all at once has to be somewhere on the axis
    loads = [load if math.isfinite(load) else beyond for load in loads]
    ticks = sorted(set(loads))
    return Axis(label, is_log=ticks[-1] / ticks[0] > 4, ticks=ticks), loads


def _throughput_over_time(run: Run) -> Chart:
    """Output tokens/s in bins of whole seconds; a last bin below half a bin is left out."""
    tokens = tokens_by_second(run)
    width = max(1, math.ceil(len(tokens) / _MAX_POINTS))
    x: list[float] = []
    y: list[float] = []
    for start in range(0, len(tokens), width):
        length = min(width, run.duration_s - start)
        if length >= width / 2 or not x:
            x.append(float(start))
            y.append(sum(tokens[start : start + width]) / max(length, 1e-3))
    return LineChart(
        "Output token throughput over time",
        Axis("seconds since the start", low=0),
        Axis("tokens/s", low=0),
        [Series("output", [*x, run.duration_s], [*y, y[-1]], style="steps")],
    )


def _kv_usage_over_time(run: Run) -> Chart:
    usage = [math.nan if s.kv_usage is None else 100.0 * s.kv_usage for s in run.gauges]
    highest = max((value for value in usage if math.isfinite(value)), default=0.0)
    return LineChart(
        "KV cache usage over time",
        Axis("seconds since the start", low=0, high=run.duration_s),
        Axis("% of blocks", low=0, high=100.0 if highest > 40 else None),
        [Series("KV usage", [s.at_s for s in run.gauges], usage)],
    )


def _requests_over_time(run: Run) -> Chart:
    def series(name: str, values: Sequence[float | None]) -> Series:
        y = [math.nan if value is None else value for value in values]
        return Series(name, [s.at_s for s in run.gauges], y, style="steps")

    return LineChart(
        "Requests in the server over time",
        Axis("seconds since the start", low=0, high=run.duration_s),
        Axis("requests", low=0, is_count=True),
        [
            series("running", [s.num_running for s in run.gauges]),
            series("waiting", [s.num_waiting for s in run.gauges]),
        ],
    )
