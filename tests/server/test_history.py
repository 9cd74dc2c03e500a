"""Quantiles between two readings of a histogram, as Prometheus estimates them."""

import math

import pytest

from octavo.server.history import quantile

BOUNDS = [1.0, 2.0, 4.0, math.inf]


def buckets(*counts: float) -> list[tuple[float, float]]:
    return list(zip(BOUNDS, counts, strict=True))


@pytest.mark.parametrize(
    ("now", "q", "expected"),
    [
        ((10, 10, 10, 10), 0.5, 0.5),
        ((0, 10, 10, 10), 0.5, 1.5),
        ((0, 0, 10, 10), 0.95, 3.9),
        ((2, 4, 8, 8), 0.5, 2.0),
        ((2, 4, 8, 8), 0.75, 3.0),
        ((0, 0, 0, 10), 0.5, 4.0),
    ],
)
def test_quantile_is_linear_within_its_bucket(now, q, expected):
    assert quantile(buckets(0, 0, 0, 0), buckets(*now), q) == pytest.approx(expected)


def test_only_what_came_between_counts():
    before = buckets(100, 100, 100, 100)
    assert quantile(before, buckets(100, 100, 110, 110), 0.5) == pytest.approx(3.0)
    assert quantile(before, before, 0.5) is None
