import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from octavo.bench.charts import Axis, GroupedBars, Histogram, LineChart, Mark, Series, document
from octavo.bench.scales import Scale, format_number, format_ticks, linear_ticks, log_ticks
from octavo.bench.svg import DARK, LIGHT, Palette

SVG = "{http://www.w3.org/2000/svg}"
LINES = LineChart(
    "A < B & C",
    Axis("load", is_log=True, ticks=(1, 4, 16)),
    Axis("tokens/s", low=0),
    [
        Series("ours", [1, 4, 16], [10, 30, 50], [8, 25, 45], [12, 33, 55], style="line+points"),
        Series("theirs & others", [1, 4, 16], [11, math.nan, 48]),
    ],
)
BARS = GroupedBars(
    "Bars", Axis("s"), ["one", "two"], ["a", "b"], [[1, 2], [3, math.nan]], [[(0, 2)] * 2] * 2
)
HISTOGRAM = Histogram("H", Axis("ms"), [float(n) for n in range(100)], [Mark(50, "p50 50")])
CHARTS = [LINES, BARS, HISTOGRAM]


def parts(chart, tag: str, name: str, width: float = 640) -> list[ET.Element]:
    root = ET.fromstring(chart.svg(width, 300))
    return [e for e in root.iter(SVG + tag) if name in e.get("class", "").split()]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
@pytest.mark.parametrize("width", [320, 640])
def test_charts_are_well_formed_and_stay_inside(chart, width: float) -> None:
    root = ET.fromstring(chart.svg(width, 300))
    assert root.tag == SVG + "svg" and root.get("viewBox") == f"0 0 {width} 300"
    assert root.findtext(SVG + "title") == chart.title
    for element in root.iter():
        for name, limit in (("x", width), ("x1", width), ("x2", width), ("y", 300), ("cy", 300)):
            assert 0 <= float(element.get(name, 0)) <= limit


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
def test_a_document_has_its_own_style_and_background(chart) -> None:
    text = document(chart)
    root = ET.fromstring(text)
    assert root.findtext(SVG + "style")
    first_shape = next(e for e in root if e.tag == SVG + "rect")
    assert f"fill:{LIGHT.background}" in first_shape.get("style", "")
    assert "href" not in text and "url(" not in text and "<script" not in text


def test_points_lie_where_their_values_are() -> None:
    points = parts(LINES, "circle", "point")
    xs = [float(point.get("cx", 0)) for point in points]
    assert len(points) == 3
    assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0], abs=0.02)  # 1, 4, 16 on a log axis
    ys = [float(point.get("cy", 0)) for point in points]
    assert (ys[0] - ys[1]) == pytest.approx(ys[1] - ys[2], abs=0.02)  # 10, 30, 50


def test_a_gap_interrupts_the_line() -> None:
    lines = parts(LINES, "path", "line")
    assert [line.get("d", "").count("M") for line in lines] == [1, 2]


def test_series_are_named_at_their_ends_or_above_where_that_takes_too_much_room() -> None:
    def names(width: float) -> list[ET.Element]:
        return [*parts(LINES, "text", "name0", width), *parts(LINES, "text", "name1", width)]

    assert all(float(name.get("x", 0)) > 480 for name in names(640))
    assert all(float(name.get("y", 0)) < 60 for name in names(320))
    assert [name.text for name in names(320)] == ["ours", "theirs & others"]


def test_names_at_line_ends_do_not_overlap() -> None:
    series = [Series(f"s{n}", [0, 1], [0, 1 + n / 100]) for n in range(5)]
    chart = LineChart("t", Axis("x"), Axis("y", low=0), series)
    root = ET.fromstring(chart.svg())
    texts = root.iter(SVG + "text")
    ys = sorted(float(e.get("y", 0)) for e in texts if e.get("class", "").startswith("name"))
    assert all(b - a >= 14.9 for a, b in pairwise(ys))


def test_a_histogram_counts_every_value_once() -> None:
    bars = parts(HISTOGRAM, "rect", "bar")
    heights = [float(bar.get("height", 0)) for bar in bars]
    per_value = max(heights) / round(100 / len(bars) + 0.49)
    assert sum(heights) / per_value == pytest.approx(100, rel=0.01)


def test_bars_are_as_high_as_their_values_and_missing_ones_are_left_out() -> None:
    heights = [float(bar.get("height", 0)) for bar in parts(BARS, "rect", "bar")]
    one, three, two = heights  # group by group
    assert three == pytest.approx(3 * one, abs=0.05) and two == pytest.approx(2 * one, abs=0.05)
    assert len(parts(BARS, "path", "whisker")) == 3


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [
        (0, 53, 5, (0, 20, 40)),
        (0, 0.3, 4, (0, 0.1, 0.2, 0.3)),
        (3, 9, 4, (2, 4, 6, 8)),
        (0, 1000, 5, (0, 250, 500, 750, 1000)),
    ],
)
def test_linear_ticks_are_round(low, high, count, ticks) -> None:
    assert linear_ticks(low, high, count) == pytest.approx(ticks)


def test_counts_have_whole_ticks() -> None:
    for high in range(1, 60):
        for count in range(2, 8):
            ticks = linear_ticks(0, high, count, is_count=True)
            assert len(ticks) >= 2 and all(tick == int(tick) for tick in ticks)


def test_log_ticks() -> None:
    assert log_ticks(1, 100, 8) == (1, 2, 5, 10, 20, 50, 100)
    assert log_ticks(1, 1e6, 8) == tuple(10.0**n for n in range(7))
    assert log_ticks(30, 60, 5) == (30, 40, 50, 60)


def test_a_scale_with_one_or_no_value_still_has_room() -> None:
    for values in ([], [0.0], [5.0], [-5.0]):
        scale = Scale.fit(Axis("x"), values, span=(0, 100), num_ticks=4)
        assert scale.high > scale.low and len(scale.ticks) >= 2
    scale = Scale.fit(Axis("x", is_log=True), [7.0], span=(0, 1), num_ticks=4, is_tight=True)
    assert (scale.low, scale.high) == (3.5, 14.0)


@pytest.mark.parametrize("is_log", [False, True])
def test_a_loose_scale_leaves_room_at_its_ends_and_a_tight_one_two_ticks(is_log: bool) -> None:
    values = [3.0, 35.0]
    loose = Scale.fit(Axis("x", is_log=is_log), values, span=(0, 100), num_ticks=3)
    assert loose.low < 3 and loose.high > 35
    tight = Scale.fit(Axis("x", is_log=is_log), values, span=(0, 100), num_ticks=3, is_tight=True)
    assert (tight.low, tight.high) == (3, 35) and len(tight.ticks) >= 2


def test_numbers_are_short() -> None:
    shown = [format_number(v) for v in (0, 0.0521, 3.42, 128, 1250, 20_000, 1_500_000)]
    assert shown == ["0", "0.0521", "3.42", "128", "1,250", "20k", "1.5M"]
    assert format_ticks((0, 5_000, 10_000)) == ["0", "5k", "10k"]
    assert format_ticks((0, 500, 1_000)) == ["0", "500", "1,000"]
    assert format_ticks((500, 20_000), is_log=True) == ["500", "20k"]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_keep_a_contrast_of_four_and_a_half(palette: Palette) -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    behind = luminance(palette.background)
    for colour in (palette.text, palette.muted, *palette.series):
        darker, lighter = sorted((behind, luminance(colour)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, colour
