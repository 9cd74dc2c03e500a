"""The two ways in which dashboards show a histogram: its quantiles, and its heat map."""

from .panels import Panel, Query, Threshold
from .queries import buckets, mean, quantile

_QUANTILES = (0.5, 0.9, 0.95, 0.99)


def quantiles(
    title: str,
    description: str,
    histogram: str,
    unit: str = "s",
    thresholds: tuple[Threshold, ...] = (),
) -> Panel:
    """p50, p90, p95, p99 and the mean over time."""
    lines = [Query(quantile(q, histogram), f"p{round(q * 100)}") for q in _QUANTILES]
    queries = (*lines, Query(mean(histogram), "mean"))
    return Panel(title, description, queries, unit, thresholds=thresholds)


def heat_map(title: str, description: str, histogram: str, unit: str, width: int = 8) -> Panel:
    """How many values a second fell into each bucket, over time."""
    return Panel(title, description, (Query(buckets(histogram)),), unit, "heatmap", width=width)
