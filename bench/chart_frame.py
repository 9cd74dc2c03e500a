"""What all charts have around their data: title, axes, grid, and names of series in a row."""

import math
from collections.abc import Sequence

from .scales import Axis, Scale, format_ticks
from .svg import element, text, text_width

FONT_SIZE = 11.5
ROW = 17.0  # height of a row of text
TOP = 56.0
BOTTOM = 44.0


class Frame:
    """Title, axes and grid, with the scales that the data is drawn by."""

    def __init__(
        self,
        title: str,
        x: Axis,
        y: Axis,
        *,
        xs: Sequence[float],
        ys: Sequence[float],
        size: tuple[float, float],
        is_tight: bool,
        top: float = TOP,
        right: float = 16.0,
        legend: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.width, self.height = size
        self._title, self._axes = title, (x, y)
        self._legend, num_rows = _legend(legend, self.width)
        top += num_rows * ROW
        self._top_of_legend = 47.0
        self._y_label_at = 42.0 + num_rows * ROW
        num_ticks = max(3, int((self.height - top - BOTTOM) / 36))
        self.y = Scale.fit(y, ys, span=(self.height - BOTTOM, top + 4), num_ticks=num_ticks)
        self._y_names = format_ticks(self.y.ticks, is_log=y.is_log)
        left = 24 + max((text_width(name, FONT_SIZE) for name in self._y_names), default=0.0)
        num_ticks = max(3, int((self.width - left - right) / 66))
        span = (left, self.width - right)
        self.x = Scale.fit(x, xs, span=span, num_ticks=num_ticks, is_tight=is_tight)

    def svg(self) -> str:
        """Everything but the data."""
        x, y = self.x, self.y
        parts = [text(16, 25, self._title, class_="title")]
        parts += [
            text(16 + left, self._top_of_legend - 4 + row * ROW, name, class_=f"name{colour}")
            for left, row, name, colour in self._legend
        ]
        parts.append(text(16, self._y_label_at, self._axes[1].label))
        for tick, name in zip(y.ticks, self._y_names, strict=True):
            at = y.place(tick)
            kind = "grid" if tick > y.low else "axis"
            parts.append(element("line", x1=x.start, x2=x.end, y1=at, y2=at, class_=kind))
            parts.append(text(x.start - 8, at + 4, name, text_anchor="end"))
        if not y.ticks or y.ticks[0] > y.low:
            base = y.start
            parts.append(element("line", x1=x.start, x2=x.end, y1=base, y2=base, class_="axis"))
        free_from = -math.inf
        x_names = format_ticks(x.ticks, is_log=x.is_log)
        for tick, name in zip(x.ticks, x_names, strict=True):
            at = x.place(tick)
            half = text_width(name, FONT_SIZE) / 2
            if at - half < free_from:
                continue
            free_from = at + half + 6
            parts.append(element("line", x1=at, x2=at, y1=y.start, y2=y.start + 4, class_="axis"))
            parts.append(text(at, y.start + 17, name, text_anchor="middle"))
        middle = (x.start + x.end) / 2
        parts.append(text(middle, self.height - 9, self._axes[0].label, text_anchor="middle"))
        return "".join(parts)


def _legend(
    names: Sequence[tuple[str, int]], width: float
) -> tuple[list[tuple[float, int, str, int]], int]:
    """Left edge, row, name and colour of each entry, and the number of rows."""
    entries = []
    left, row = 0.0, 0
    for name, colour in names:
        wide = text_width(name, FONT_SIZE) * 1.08
        if left and left + wide > width - 32:
            left, row = 0.0, row + 1
        entries.append((left, row, name, colour))
        left += wide + 18
    return entries, row + 1 if names else 0
