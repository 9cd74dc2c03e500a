"""What a dashboard consists of, in plain values."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "heatmap", "table", "bargauge", "state-timeline"]
Colour = Literal["green", "yellow", "orange", "red", "blue", "grey"]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and how its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Threshold:
    """From this value on, this colour; below the first one the panel is green."""

    value: float
    colour: Colour


@dataclass(frozen=True)
class State:
    """A value that stands for a state, and what to show for it."""

    value: int
    text: str
    colour: Colour


@dataclass(frozen=True)
class Panel:
    """One panel; the grid is 24 wide.

    `unit` is Grafana's name of it (`s`, `percentunit`, `bytes`, `reqps`, `short`) or
    `suffix: text`. `hidden_columns` are labels that a table leaves out.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    kind: Kind = "timeseries"
    thresholds: tuple[Threshold, ...] = ()
    states: tuple[State, ...] = ()
    stacked: bool = False
    maximum: float | None = None
    width: int = 8
    height: int = 8
    hidden_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; `uid` is its lasting address."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
