"""Line charts, histograms and grouped bars as SVG, without any script or outside file.

    chart = LineChart(
        "Throughput", Axis("concurrency", is_log=True, ticks=(1, 4, 16)), Axis("tokens/s", low=0),
        [Series("octavo", x=[1, 4, 16], y=[11, 30, 52])],
    )
    chart.svg(width=640)       # an element to put into HTML with `svg.css` in its style sheet
    document(chart)            # a whole file that carries its style and an opaque background

Series are named at the end of their lines where there is room, else in a row under the title. One
series alone is not named: the title says what it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from .chart_frame import FONT_SIZE, ROW, TOP, Frame
from .scales import Axis, Scale, format_number
from .svg import LIGHT, Palette, card, css, drawing, element, text, text_width

__all__ = [
    "LIGHT",
    "Axis",
    "Chart",
    "GroupedBars",
    "Histogram",
    "LineChart",
    "Mark",
    "Palette",
    "Series",
    "document",
]


class Chart(Protocol):
    """Anything that can be drawn at a given size."""

    @property
    def title(self) -> str:
        """The heading."""
        ...

    def svg(self, width: float = 640, height: float = 300) -> str:
        """An <svg> element of that size in pixels; texts keep their size whatever it is."""
        ...

    def draw(self, width: float, height: float) -> str:
        """What is inside that element."""
        ...


@dataclass(frozen=True)
class Series:
    """Points (x, y), joined as `style` says; `low` and `high` are the edges of a shaded band.

    A value that is not finite interrupts the line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: Literal["line", "points", "line+points", "steps", "dashed"] = "line"
    colour: int | None = None


@dataclass(frozen=True)
class Mark:
    """A dashed vertical line at a value, with its name."""

    value: float
    name: str


@dataclass(frozen=True)
class LineChart:
    """Several series over one pair of axes."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = field(default_factory=tuple)

    def svg(self, width: float = 640, height: float = 300) -> str:
        """See `Chart`."""
        return drawing(width, height, self.title, self.draw(width, height))

    def draw(self, width: float, height: float) -> str:
        """See `Chart`."""
        names = [one.name for one in self.series] if len(self.series) > 1 else []
        widest = max((text_width(name, FONT_SIZE) for name in names), default=0.0)
        is_direct = widest <= 0.26 * width
        frame = Frame(
            self.title,
            self.x,
            self.y,
            xs=[x for one in self.series for x in one.x],
            ys=[y for one in self.series for y in (*one.y, *(one.low or ()), *(one.high or ()))],
            size=(width, height),
            right=widest * 1.08 + 24 if is_direct and names else 16.0,
            legend=[] if is_direct else self._named(),
            is_tight=True,
        )
        parts = [frame.svg()]
        parts += [_band(frame, one, self._colour(n)) for n, one in enumerate(self.series)]
        parts += [_line(frame, one, self._colour(n)) for n, one in enumerate(self.series)]
        if is_direct and names:
            parts.append(self._end_labels(frame))
        return "".join(parts)

    def _colour(self, number: int) -> int:
        chosen = self.series[number].colour
        return (number if chosen is None else chosen) % len(LIGHT.series)

    def _named(self) -> list[tuple[str, int]]:
        return [(one.name, self._colour(number)) for number, one in enumerate(self.series)]

    def _end_labels(self, frame: Frame) -> str:
        wanted = []
        for (name, colour), one in zip(self._named(), self.series, strict=True):
            ends = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
            if ends:
                wanted.append((frame.y.place(ends[-1][1]) + 4, name, colour))
        wanted.sort()
        lowest = frame.y.start + 4
        places = _spread([at for at, _, _ in wanted], 15.0, lowest)
        return "".join(
            text(frame.x.end + 10, at, name, class_=f"name{colour}")
            for at, (_, name, colour) in zip(places, wanted, strict=True)
        )


@dataclass(frozen=True)
class Histogram:
    """How often values fall into bins of equal width (on a log axis: of equal ratio).

    `marks` are drawn over it, for quantiles. Values beyond the ends of the axis count in the
    outermost bins.
    """

    title: str
    x: Axis
    values: Sequence[float]
    marks: Sequence[Mark] = field(default_factory=tuple)
    num_bins: int = 40
    y_label: str = "count"

    def svg(self, width: float = 640, height: float = 300) -> str:
        """See `Chart`."""
        return drawing(width, height, self.title, self.draw(width, height))

    def draw(self, width: float, height: float) -> str:
        """See `Chart`."""
        # Few values in many bins look like a comb.
        num_bins = min(self.num_bins, int(width / 10), 6 + int(2 * len(self.values) ** 0.5))
        span = Scale.fit(self.x, self.values, span=(0.0, 1.0), num_ticks=6, is_tight=True)
        counts = [0] * num_bins
        for value in self.values:
            counts[min(int(span.place(value) * num_bins), num_bins - 1)] += 1
        frame = Frame(
            self.title,
            self.x,
            Axis(self.y_label, low=0, is_count=True),
            xs=self.values,
            ys=counts,
            size=(width, height),
            top=TOP + (2 * ROW if self.marks else 0.0),
            is_tight=True,
        )
        step = (frame.x.end - frame.x.start) / num_bins
        bars = [
            element(
                "rect",
                x=frame.x.start + number * step + 0.5,
                y=frame.y.place(count),
                width=max(step - 1, 0.5),
                height=frame.y.start - frame.y.place(count),
                class_="bar fill0",
            )
            for number, count in enumerate(counts)
            if count
        ]
        return "".join([frame.svg(), *bars, self._marks(frame)])

    def _marks(self, frame: Frame) -> str:
        parts = []
        free_from = [-math.inf, -math.inf]  # in the lower and the upper row of names
        for mark in sorted(self.marks, key=lambda mark: mark.value):
            at = frame.x.place(mark.value)
            half = text_width(mark.name, FONT_SIZE) / 2
            middle = min(max(at, half), frame.width - half - 12)
            row = next((r for r, free in enumerate(free_from) if middle - half >= free), None)
            top = frame.y.end - 4 - (row or 0) * ROW
            parts.append(element("line", x1=at, x2=at, y1=top, y2=frame.y.start, class_="mark"))
            if row is not None:
                free_from[row] = middle + half + 10
                name = text(middle, top - 5, mark.name, text_anchor="middle", class_="value")
                parts.append(name)
        return "".join(parts)


@dataclass(frozen=True)
class GroupedBars:
    """Bars side by side: for each group one of each series.

    `values[s][g]` is the bar of series `s` in group `g`; not finite: no bar. `spans[s][g]`, if
    given, are the ends of a whisker (for the least and the greatest of several runs).
    """

    title: str
    y: Axis
    groups: Sequence[str]
    series: Sequence[str]
    values: Sequence[Sequence[float]]
    spans: Sequence[Sequence[tuple[float, float]]] | None = None

    def svg(self, width: float = 640, height: float = 300) -> str:
        """See `Chart`."""
        return drawing(width, height, self.title, self.draw(width, height))

    def draw(self, width: float, height: float) -> str:
        """See `Chart`."""
        spans = [end for row in self.spans or () for span in row for end in span]
        names = list(self.series) if len(self.series) > 1 else []
        frame = Frame(
            self.title,
            Axis("", low=0, high=max(len(self.groups), 1), ticks=()),
            self.y if self.y.low is not None or self.y.is_log else _from_zero(self.y),
            xs=(),
            ys=[value for row in self.values for value in row] + spans,
            size=(width, height),
            legend=[(name, number % len(LIGHT.series)) for number, name in enumerate(names)],
            is_tight=False,
        )
        group_width = (frame.x.end - frame.x.start) / max(len(self.groups), 1)
        bar_width = min(group_width * 0.8 / max(len(self.series), 1), 64.0)
        parts = [frame.svg()]
        for group, name in enumerate(self.groups):
            middle = frame.x.start + (group + 0.5) * group_width
            first = middle - bar_width * len(self.series) / 2
            for number in range(len(self.series)):
                left = first + number * bar_width
                parts.append(self._bar(frame, number, group, left, bar_width))
            parts.append(_wrapped(middle, frame.y.start + 17, name, group_width))
        return "".join(parts)

    def _bar(self, frame: Frame, number: int, group: int, left: float, width: float) -> str:
        value = self.values[number][group]
        if not math.isfinite(value):
            return ""
        top = frame.y.place(value)
        parts = [
            element(
                "rect",
                x=left + 1,
                y=top,
                width=max(width - 2, 1),
                height=max(frame.y.start - top, 0),
                rx=1.5,
                class_=f"bar fill{number % len(LIGHT.series)}",
            )
        ]
        middle = left + width / 2
        if self.spans is not None:
            low, high = (frame.y.place(end) for end in self.spans[number][group])
            path = f"M{middle:.1f} {low:.1f}V{high:.1f}M{middle - 4:.1f} {low:.1f}h8"
            parts.append(
                element("path", d=f"{path}M{middle - 4:.1f} {high:.1f}h8", class_="whisker")
            )
            top = min(top, high)
        label = format_number(value)
        if text_width(label, FONT_SIZE) <= width + 10:
            parts.append(text(middle, top - 5, label, text_anchor="middle", class_="value"))
        return "".join(parts)


def document(
    chart: Chart, *, width: float = 720, height: float = 360, palette: Palette = LIGHT
) -> str:
    """A whole SVG file, with its own style and background, for Markdown pages of any colour."""
    style = element("style", css(palette))
    content = card(width, height, palette) + chart.draw(width, height)
    return drawing(width, height, chart.title, content, style=style) + "\n"


def _band(frame: Frame, one: Series, colour: int) -> str:
    if one.low is None or one.high is None:
        return ""
    upper = [(frame.x.place(x), frame.y.place(y)) for x, y in zip(one.x, one.high, strict=True)]
    lower = [(frame.x.place(x), frame.y.place(y)) for x, y in zip(one.x, one.low, strict=True)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    return element("polygon", points=points, class_=f"band fill{colour}")


def _line(frame: Frame, one: Series, colour: int) -> str:
    points = [
        (frame.x.place(x), frame.y.place(y)) if math.isfinite(y) else None
        for x, y in zip(one.x, one.y, strict=True)
    ]
    parts = []
    if one.style != "points":
        kind = "line dashed" if one.style == "dashed" else "line"
        path = _path(points, is_stepped=one.style == "steps")
        parts.append(element("path", d=path, class_=f"{kind} stroke{colour}"))
    if one.style in ("points", "line+points"):
        parts += [
            element("circle", cx=point[0], cy=point[1], r=4, class_=f"point fill{colour}")
            for point in points
            if point is not None
        ]
    return "".join(parts)


def _path(points: Sequence[tuple[float, float] | None], *, is_stepped: bool) -> str:
    parts = []
    is_drawing = False
    for point in points:
        if point is None:
            is_drawing = False
            continue
        x, y = point
        if not is_drawing:
            parts.append(f"M{x:.1f} {y:.1f}")
        else:
            parts.append(f"H{x:.1f}V{y:.1f}" if is_stepped else f"L{x:.1f} {y:.1f}")
        is_drawing = True
    return "".join(parts) or "M0 0"


def _spread(places: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Places in rising order moved apart to `gap`, none beyond `lowest`."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + gap) if spread else place)
    limit = lowest
    for number in range(len(spread) - 1, -1, -1):
        spread[number] = min(spread[number], limit)
        limit = spread[number] - gap
    return spread


def _from_zero(axis: Axis) -> Axis:
    return replace(axis, low=0.0)


def _wrapped(x: float, y: float, content: str, width: float) -> str:
    """A centred text in as many lines as the width asks for (broken at spaces)."""
    lines = [""]
    for word in content.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, FONT_SIZE) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "".join(
        text(x, y + number * 13, line, text_anchor="middle") for number, line in enumerate(lines)
    )
