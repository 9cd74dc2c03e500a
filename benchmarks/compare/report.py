"""A comparison as text, Markdown and JSON."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import Machine

from .figures import FIGURES, Figures, Measurement, Summary, summarise
from .systems import System
from .workloads import ComparedWorkload

HEADS = ("output tok/s", "TTFT p50, ms", "ITL p50, ms", "E2EL p50, ms")
Table = list[list[str]]


class Report:
    """What a comparison was of, and what has been measured so far."""

    def __init__(
        self,
        machine: Machine,
        command: str,
        systems: Sequence[System],
        workloads: Sequence[ComparedWorkload],
        repeats: int,
    ) -> None:
        self._machine = machine
        self._command = command
        self._systems = systems
        self._workloads = workloads
        self._repeats = repeats
        self.measurements: list[Measurement] = []

    def text(self) -> str:
        """Tables for a terminal."""
        parts = []
        for summary in summarise(self.measurements):
            parts.append(self._heading(summary))
            parts.append(_align(_rows(summary)))
            if summary.ratios:
                parts.append(_align(_ratios(summary)))
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """A document: where and how it was measured, then a table for each workload."""
        parts = [
            "# Comparison",
            f"`{self._command}`. Medians of {self._repeats} repeats, with the extremes in brackets "
            f"where there are several; one fresh process for each. {self._machine.line}.",
            "\n".join(f"- {system.name}: {_origin(system)}" for system in self._systems),
        ]
        for summary in summarise(self.measurements):
            parts.append(f"## {self._heading(summary)}")
            parts.append(_pipe(_rows(summary)))
            if summary.ratios:
                parts.append(
                    "Octavo over the best format of each peer (tok/s: above 1 is better; times: "
                    "below 1)."
                )
                parts.append(_pipe(_ratios(summary)))
        return "\n\n".join(parts) + "\n"

    def save_json(self, path: Path) -> None:
        """Everything: the machine, commands and versions, each run, medians and ratios."""
        is_whole = len(self.measurements) == self._repeats * sum(
            system.takes(workload.name) for system in self._systems for workload in self._workloads
        )
        content = {
            "machine": asdict(self._machine),
            "command": self._command,
            "repeats": self._repeats,
            "is_complete": is_whole,
            "systems": [
                {**asdict(system), "command": system.command and _by_name(system.command)}
                for system in self._systems
            ],
            "workloads": [
                {**asdict(workload), "kind": type(workload.prompts).__name__}
                for workload in self._workloads
            ],
            "measurements": [asdict(measurement) for measurement in self.measurements],
            "summaries": [asdict(summary) for summary in summarise(self.measurements)],
        }
        path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")

    def _heading(self, summary: Summary) -> str:
        title = next(w.title for w in self._workloads if w.name == summary.workload)
        return f"{summary.workload}: {title}"


def describe(measurement: Measurement, repeats: int) -> str:
    """One line about one run, for whoever watches."""
    figures = measurement.figures
    line = (
        f"[{measurement.repeat}/{repeats}] {measurement.system} {measurement.workload}: "
        f"{figures.output_tok_s:.1f} tok/s, TTFT {figures.ttft_ms:.0f} ms, "
        f"ITL {figures.itl_ms:.1f} ms, E2EL {figures.e2el_ms:.0f} ms"
    )
    if measurement.failed:
        line += f"; {measurement.failed} FAILED: {measurement.errors}"
    return line


def _origin(system: System) -> str:
    if system.command is None:
        return f"<{system.url}>"
    told = f"{system.version}; " if system.version else ""
    return f"{told}`{shlex.join(_by_name(system.command))}`"


def _by_name(command: Sequence[str]) -> list[str]:
    """Programs and models without their folders, which say nothing to another reader."""
    return [Path(part).name if part.startswith("/") else part for part in command]


def _rows(summary: Summary) -> Table:
    table = [["system", *HEADS, "failed"]]
    for row in summary.rows:
        cells = []
        for name in FIGURES:
            middle, low, high = (
                getattr(one, name) for one in (row.median, row.least, row.greatest)
            )
            cells.append(
                f"{middle:,.1f}"
                if row.num_repeats == 1
                else f"{middle:,.1f} ({low:,.1f}–{high:,.1f})"
            )
        table.append([row.system, *cells, str(row.failed)])
    return table


def _ratios(summary: Summary) -> Table:
    table = [["ratio", *(head.split(",")[0] for head in HEADS)]]
    for ratio in summary.ratios:
        table.append([f"{ratio.system} / {ratio.peer}", *_times(ratio.over)])
    return table


def _times(figures: Figures) -> list[str]:
    return [f"{getattr(figures, name):.2f}×" for name in FIGURES]


def _align(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    return "\n".join(lines)


def _pipe(table: Table) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in table)
    columns = len(table[0])
    return "\n".join([head, "| --- |" + " ---: |" * (columns - 1), *body])
