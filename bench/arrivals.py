"""When requests of an open loop arrive."""

import math
from collections.abc import Iterator
from random import Random

from .errors import BenchError


def arrival_times(rate: float, burstiness: float, seed: int | str) -> Iterator[float]:
    """Endless arrival times in seconds from the start; the first is 0.

    The gaps are gamma-distributed with shape `burstiness` and mean 1 / `rate`: with a burstiness of
    1 arrivals are a Poisson process, below 1 they come in bursts, above 1 they are more even. An
    infinite rate lets everything arrive at once. Raises BenchError for values that are not
    positive.
    """
    if not rate > 0 or not 0 < burstiness < math.inf:
        raise BenchError(f"rate and burstiness must be positive, not {rate} and {burstiness}")
    return _times(rate, burstiness, Random(f"arrivals {seed}"))


def _times(rate: float, burstiness: float, random: Random) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        if math.isfinite(rate):
            now += random.gammavariate(burstiness, 1.0 / (rate * burstiness))
