import math
from itertools import islice, pairwise
from statistics import mean, pstdev

import pytest

from octavo.bench import BenchError
from octavo.bench.arrivals import arrival_times


def gaps(rate: float, burstiness: float, count: int = 20_000) -> list[float]:
    times = list(islice(arrival_times(rate, burstiness, 5), count + 1))
    return [b - a for a, b in pairwise(times)]


@pytest.mark.parametrize(("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)])
def test_gaps_are_gamma_distributed(burstiness: float, variation: float) -> None:
    found = gaps(8.0, burstiness)
    assert mean(found) == pytest.approx(1 / 8, rel=0.05)
    assert pstdev(found) / mean(found) == pytest.approx(variation, rel=0.05)  # 1 / sqrt(shape)


def test_poisson_gaps_are_exponential() -> None:
    found = gaps(2.0, 1.0)
    assert sum(gap > 0.5 for gap in found) / len(found) == pytest.approx(math.exp(-1), abs=0.01)


def test_the_first_arrives_at_once_and_the_seed_fixes_the_rest() -> None:
    first = list(islice(arrival_times(3.0, 1.0, 1), 5))
    assert first[0] == 0.0
    assert first == list(islice(arrival_times(3.0, 1.0, 1), 5))
    assert first != list(islice(arrival_times(3.0, 1.0, 2), 5))


def test_an_infinite_rate_lets_all_arrive_at_once() -> None:
    assert list(islice(arrival_times(math.inf, 1.0, 1), 4)) == [0.0] * 4


@pytest.mark.parametrize(("rate", "burstiness"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0)])
def test_rates_and_burstiness_must_be_positive(rate: float, burstiness: float) -> None:
    with pytest.raises(BenchError):
        arrival_times(rate, burstiness, 0)
