"""Axes of charts: where values lie, which ticks are shown, and how numbers are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MANTISSAS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LOG_MANTISSAS = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))


@dataclass(frozen=True)
class Axis:
    """What an axis shows. `label` names the quantity with its unit.

    `low` and `high` fix an end that otherwise follows from the data; `ticks` fixes the ticks. A log
    axis shows positive values only. `is_count`: no ticks between whole numbers.
    """

    label: str
    is_log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] | None = None
    is_count: bool = False


@dataclass(frozen=True)
class Scale:
    """A mapping of values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    ticks: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        axis: Axis,
        values: Sequence[float],
        *,
        span: tuple[float, float],
        num_ticks: int,
        is_tight: bool = False,
    ) -> "Scale":
        """The scale for an axis and the values on it.

        Ends are widened to ticks unless they are fixed by the axis or `is_tight`. Without values
        the scale goes from 0 to 1 (log: from 1 to 10).
        """
        shown = [v for v in values if math.isfinite(v) and (v > 0 or not axis.is_log)]
        low = axis.low if axis.low is not None else min(shown, default=1.0 if axis.is_log else 0.0)
        high = axis.high if axis.high is not None else max(shown, default=10.0 * low or 1.0)
        if not high > low:
            low, high = _widen(low, axis)
        if axis.is_log and not is_tight:
            room = (high / low) ** 0.05
            low = low if axis.low is not None else low / room
            high = high if axis.high is not None else high * room
        if axis.ticks is not None:
            ticks = tuple(axis.ticks)
            if not is_tight:
                low, high = min((low, *ticks)), max((high, *ticks))
        elif axis.is_log:
            ticks = log_ticks(low, high, num_ticks)
        else:
            ticks = linear_ticks(low, high, num_ticks, is_count=axis.is_count)
            while is_tight and sum(low <= t <= high for t in ticks) < 2 and num_ticks < 12:
                num_ticks += 1
                ticks = linear_ticks(low, high, num_ticks, is_count=axis.is_count)
            if not is_tight:
                low = low if axis.low is not None else min(low, ticks[0])
                if axis.high is None and ticks[-1] < high:
                    ticks = (*ticks, ticks[-1] + (ticks[1] - ticks[0]))
                    high = ticks[-1]
        ticks = tuple(t for t in ticks if low <= t * (1 + 1e-9) and t <= high * (1 + 1e-9))
        return cls(low, high, span[0], span[1], axis.is_log, ticks)

    def place(self, value: float) -> float:
        """The pixel of a value; values beyond an end are moved to it."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def linear_ticks(
    low: float, high: float, count: int, *, is_count: bool = False
) -> tuple[float, ...]:
    """About `count` round values from at or below `low` to at or below `high`; two at least."""
    rough = max((high - low) / max(count - 1, 1), 1.0 if is_count else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [mantissa * power for mantissa in _MANTISSAS]
    step = next(
        step for step in steps if step >= rough * (1 - 1e-9) and not (is_count and step % 1.0)
    )
    first = math.floor(low / step + 1e-9)
    last = max(math.floor(high / step + 1e-9), first + 1)
    return tuple(round(n * step, 12) for n in range(first, last + 1))


def log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """At most about `count` round values between the ends, evenly spread on a log axis.

    Less than a decade holds too few of them: then the linear ones are taken.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _LOG_MANTISSAS:
        ticks = [m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(ticks) <= count + 1:
            break
    while len(ticks) > count + 1:
        ticks = ticks[::2]
    if len(ticks) < 3:
        return tuple(t for t in linear_ticks(low, high, count) if low <= t <= high)
    return tuple(ticks)


def format_number(value: float) -> str:
    """A number as short as three digits allow: 0.052, 3.4, 128, 1,250, 20k, 1.5M."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    if size >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 0.001 or size == 0 else f"{value:.0e}"


def format_ticks(ticks: Sequence[float], *, is_log: bool = False) -> list[str]:
    """Numbers on one axis; on a linear one all in thousands (or millions) if the largest is."""
    if is_log:
        return [format_number(tick) for tick in ticks]
    largest = max((abs(tick) for tick in ticks), default=0.0)
    for unit, name in ((1e6, "M"), (1e4, "k")):
        if largest >= unit:
            scale = 1e6 if name == "M" else 1e3
            return [f"{tick / scale:g}{name}" if tick else "0" for tick in ticks]
    return [format_number(tick) for tick in ticks]


def _widen(value: float, axis: Axis) -> tuple[float, float]:
    """Ends around the only value there is."""
    if axis.is_log:
        return value / 2, value * 2
    if value == 0:
        return 0.0, 1.0
    return (0.0, value * 1.25) if value > 0 else (value * 1.25, 0.0)
