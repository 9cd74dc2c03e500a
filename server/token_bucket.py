"""A token bucket: so many requests a minute, in bursts of as many at most."""


class TokenBucket:
    """Fills with `per_minute` tokens a minute, evenly; full at first, and when that many are in.

    Instants are seconds of one clock that never goes back.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60.0
        self._tokens = self._capacity
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take a token, if there is a whole one."""
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def remaining(self, now: float) -> int:
        """Whole tokens that are in."""
        self._fill(now)
        return int(self._tokens)

    def seconds_to_next(self, now: float) -> float:
        """How long until there is a whole token; 0 if there is one."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def seconds_to_full(self, now: float) -> float:
        """How long until the bucket is as at first; 0 if it is."""
        self._fill(now)
        return (self._capacity - self._tokens) / self._per_second

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._filled_at)
        self._filled_at = max(self._filled_at, now)
        tokens = self._tokens + passed * self._per_second
        # A wait of exactly `seconds_to_next` must be enough, whatever is rounded on the way.
        nearest = round(tokens)
        self._tokens = min(self._capacity, nearest if abs(tokens - nearest) < 1e-6 else tokens)
