"""Reports of one or more runs: as a text table, Markdown and JSON. HTML is in report_html.py."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .records import RequestRecord, Run
from .summary import Distribution, Summary

MAX_SHOWN_ERRORS = 5
_PACKAGES = ("octavo", "httpx", "httptools", "msgspec", "numpy", "uvloop")
_LATENCIES = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Report:
    """What is reported: runs with their summaries, how they were asked for, and with what.

    `settings` are the options in the order they shall be shown, `versions` those of the load
    generator's side (and of the server, where it tells).
    """

    title: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    runs: Sequence[Run]
    summaries: Sequence[Summary]

    @property
    def labels(self) -> list[str]:
        """The load of each run, for column headings."""
        return [run.load.label for run in self.runs]


def local_versions() -> dict[str, str]:
    """Versions of what measures, and the machine it runs on."""
    found = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def rows(summary: Summary) -> list[tuple[str, str]]:
    """Label and value of each figure, in the order and with the names of `vllm bench serve`."""
    found = [
        ("Successful requests", str(summary.successful)),
        ("Failed requests", str(summary.failed)),
        ("Benchmark duration (s)", _number(summary.duration_s)),
        ("Total input tokens", str(summary.input_tokens)),
        ("Cached input tokens", _optional(summary.cached_tokens, str)),
        ("Total generated tokens", str(summary.output_tokens)),
        ("Request throughput (req/s)", _number(summary.request_throughput)),
        ("Request goodput (req/s)", _optional(summary.request_goodput, _number)),
        ("Output token throughput (tok/s)", _number(summary.output_throughput)),
        ("Peak output token throughput (tok/s)", _number(summary.peak_output_throughput)),
        ("Peak concurrent requests", str(summary.peak_concurrency)),
        ("Total token throughput (tok/s)", _number(summary.total_throughput)),
    ]
    for name in _LATENCIES:
        distribution: Distribution | None = getattr(summary, name)
        for kind, attribute in (("Mean", "mean_ms"), ("Median", "median_ms"), ("P99", "p99_ms")):
            value = None if distribution is None else getattr(distribution, attribute)
            found.append((f"{kind} {name.upper()} (ms)", _optional(value, _number)))
    if summary.late is not None:
        found.append(("P99 lateness of sending (ms)", _number(summary.late.p99_ms)))
    return found


def table(report: Report) -> list[tuple[str, ...]]:
    """A heading and the rows, one column a run; rows that no run has a value for are left out."""
    columns = [dict(rows(summary)) for summary in report.summaries]
    labels = list(dict.fromkeys(label for column in columns for label in column))
    body = [(label, *(column.get(label, "-") for column in columns)) for label in labels]
    return [("", *report.labels), *(row for row in body if any(cell != "-" for cell in row[1:]))]


def to_text(report: Report) -> str:
    """The table with aligned columns, and what went wrong beneath it."""
    lines = table(report)
    widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
    shown = [report.title, ""]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        shown.append("  ".join(cells).rstrip())
    return "\n".join([*shown, *(f"! {problem}" for problem in problems(report))]) + "\n"


def to_markdown(report: Report) -> str:
    """Title, settings, the table and what went wrong."""
    lines = table(report)
    parts = [f"# {report.title}", ""]
    parts += [f"- {name}: `{value}`" for name, value in report.settings.items()]
    parts += [f"- {name} {value}" for name, value in report.versions.items()]
    parts += ["", "| " + " | ".join(lines[0]) + " |"]
    parts.append("| --- |" + " ---: |" * len(report.runs))
    parts += ["| " + " | ".join(line) + " |" for line in lines[1:]]
    found = problems(report)
    if found:
        parts += ["", "Problems:", "", *(f"- {problem}" for problem in found)]
    return "\n".join(parts) + "\n"


def problems(report: Report) -> list[str]:
    """The first errors of each run with how often they came, and why a run ended early."""
    found = []
    for run, summary in zip(report.runs, report.summaries, strict=True):
        shown = list(summary.errors.items())
        found += [
            f"{run.load.label}: {count} failed: {error}"
            for error, count in shown[:MAX_SHOWN_ERRORS]
        ]
        if len(shown) > MAX_SHOWN_ERRORS:
            found.append(f"{run.load.label}: {len(shown) - MAX_SHOWN_ERRORS} further errors")
        if run.stopped_early is not None:
            found.append(f"{run.load.label}: stopped early: {run.stopped_early}")
        if run.records and not all(record.has_usage for record in run.records if record.ok):
            found.append(
                f"{run.load.label}: the server told no usage; chunks were counted as tokens and "
                "prompts as none"
            )
    return found


def to_json(report: Report) -> str:
    """Everything: settings, versions, summaries, each request and each sample of the gauges."""
    runs = []
    for run, summary in zip(report.runs, report.summaries, strict=True):
        runs.append(
            {
                "load": {name: _plain(value) for name, value in asdict(run.load).items()},
                "started_at": run.started_at,
                "stopped_early": run.stopped_early,
                "summary": _plain_summary(summary),
                "requests": [_plain_request(record) for record in run.records],
                "gauges": [asdict(sample) for sample in run.gauges],
            }
        )
    whole = {
        "title": report.title,
        "settings": dict(report.settings),
        "versions": dict(report.versions),
        "runs": runs,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, default=str) + "\n"


def _plain_summary(summary: Summary) -> dict[str, Any]:
    return {**asdict(summary), "errors": dict(summary.errors)}


def _plain_request(record: RequestRecord) -> dict[str, Any]:
    """All fields, rounded to microseconds, with the latencies that follow from them."""
    plain = {
        name: _plain(value)
        for name, value in asdict(record).items()
        if name not in ("text", "chunk_s")
    }
    plain["ttft_s"] = _plain(record.ttft_s)
    plain["tpot_s"] = _plain(record.tpot_s)
    plain["e2el_s"] = _plain(record.e2el_s)
    plain["chunk_s"] = [_plain(at_s) for at_s in record.chunk_s]
    plain["text"] = record.text
    return plain


def _plain(value: object) -> object:
    """JSON has no infinity, and no use for more than microseconds."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else str(value)


def _number(value: float) -> str:
    return f"{value:.2f}"


def _optional(value: Any, shown: Any) -> str:
    return "-" if value is None else str(shown(value))
