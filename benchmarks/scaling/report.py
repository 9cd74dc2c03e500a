"""A measured curve on disk: its figures as JSON, its charts as SVG, its tables as Markdown."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import Machine
from octavo.bench.charts import Axis, LineChart, document
from octavo.bench.charts import Series as Line

from .curve import Curve, Panel


def write_curve(curve: Curve, machine: Machine, command: str, results: Path, images: Path) -> None:
    """Write `scaling-<name>.json` and `.md` into `results`, and each panel's SVG into `images`."""
    results.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    content = {"machine": asdict(machine), "command": command, **asdict(curve)}
    (results / f"scaling-{curve.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    text = markdown(curve, machine, command)
    (results / f"scaling-{curve.name}.md").write_text(text, encoding="utf-8")
    for panel in curve.panels:
        (images / f"{panel.name}.svg").write_text(svg(panel), encoding="utf-8")


def svg(panel: Panel) -> str:
    """The chart as a whole SVG document."""
    lines = [
        Line(name=series.name, x=panel.xs, y=series.ys, style="line+points")
        for series in panel.series
    ]
    y_axis = Axis(panel.y_label, is_log=panel.log_y, low=None if panel.log_y else 0.0)
    x_axis = Axis(panel.x_label, is_log=True, ticks=panel.xs)
    return document(LineChart(panel.title, x_axis, y_axis, lines))


def markdown(curve: Curve, machine: Machine, command: str) -> str:
    """The fragment for a page in `docs/`: what was done, each chart with its table, the facts."""
    parts = [f"## {curve.title}", f"`{command}`. {curve.how} {machine.line}."]
    for panel in curve.panels:
        parts.append(f"![{panel.title}](images/{panel.name}.svg)")
        parts.append(_table(panel))
    if curve.facts:
        parts.append("\n".join(f"- {_words(name)}: {v:,.4g}" for name, v in curve.facts.items()))
    return "\n\n".join(parts) + "\n"


def text_table(panel: Panel) -> str:
    """A table for a terminal."""
    rows = [[panel.x_label, *(f"{x:,.0f}" for x in panel.xs)]]
    rows += [[s.name, *(f"{y:,.{panel.digits}f}" for y in s.ys)] for s in panel.series]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{panel.title} – {panel.y_label}"]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines)


def _table(panel: Panel) -> str:
    """One line for each point, one column for each series."""
    head = [panel.x_label, *(f"{series.name}, {panel.y_label}" for series in panel.series)]
    lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
    for index, x in enumerate(panel.xs):
        ys = [f"{series.ys[index]:,.{panel.digits}f}" for series in panel.series]
        lines.append(f"| {' | '.join([f'{x:,.0f}', *ys])} |")
    return "\n".join(lines)


def _words(name: str) -> str:
    return name.replace("_", " ")
