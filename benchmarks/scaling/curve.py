"""What every curve comes out as, whatever was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Series:
    """One line of a chart; `ys[i]` was measured at the panel's `xs[i]`."""

    name: str
    ys: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One chart: several series over the same points. Labels name quantity and unit."""

    name: str  # of its file
    title: str
    x_label: str
    y_label: str
    xs: tuple[float, ...]
    series: tuple[Series, ...]
    log_y: bool = False
    digits: int = 1  # of the figures in a table


@dataclass(frozen=True)
class Curve:
    """All that one measurement gave: its charts, and single figures by name (unit in the name)."""

    name: str
    title: str
    how: str
    panels: tuple[Panel, ...]
    facts: dict[str, float] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie: nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
