"""The figures of one run, and what several repeats of several systems come to."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from octavo import bench

from .systems import OCTAVO, URL


@dataclass(frozen=True)
class Figures:
    """One workload on one system. TTFT, ITL and E2EL are medians over the run, in ms."""

    output_tok_s: float
    ttft_ms: float
    itl_ms: float
    e2el_ms: float

    @classmethod
    def of(cls, summary: bench.Summary) -> "Figures":
        """From the load generator's summary; what it lacks (ITL of single chunks, say) is nan."""
        parts = (summary.ttft, summary.itl, summary.e2el)
        ttft, itl, e2el = (math.nan if part is None else part.median_ms for part in parts)
        return cls(summary.output_throughput, ttft, itl, e2el)


FIGURES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True)
class Measurement:
    """One run: which system, workload and repeat (from 1), what came out, what went wrong."""

    system: str
    family: str
    workload: str
    repeat: int
    figures: Figures
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None
    failed: int
    errors: dict[str, int]
    duration_s: float


@dataclass(frozen=True)
class Row:
    """One system under one workload: medians over the repeats, and their extremes."""

    system: str
    family: str
    median: Figures
    least: Figures
    greatest: Figures
    num_repeats: int
    failed: int


@dataclass(frozen=True)
class Ratio:
    """Octavo's medians over those of one peer; above 1 is better for tok/s, below for times."""

    system: str
    peer: str
    over: Figures


@dataclass(frozen=True)
class Summary:
    """One workload: every system, and Octavo over the best format of each peer.

    The best format is that with the highest median of output tok/s; all four ratios are to it.
    """

    workload: str
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]


def summarise(measurements: Sequence[Measurement]) -> list[Summary]:
    """Medians and ratios by workload, in the order in which they were first measured."""
    summaries = []
    for workload in dict.fromkeys(m.workload for m in measurements):
        here = [m for m in measurements if m.workload == workload]
        rows = tuple(
            _row([m for m in here if m.system == system])
            for system in dict.fromkeys(m.system for m in here)
        )
        best = _best_of_each_peer(rows)
        ratios = tuple(
            Ratio(row.system, peer.system, _divide(row.median, peer.median))
            for row in rows
            if row.family == OCTAVO
            for peer in best
        )
        summaries.append(Summary(workload, rows, ratios))
    return summaries


def _best_of_each_peer(rows: Iterable[Row]) -> list[Row]:
    """The fastest row of each family that is not Octavo; servers given by URL stand each alone."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.family == OCTAVO:
            continue
        key = row.system if row.family == URL else row.family
        if key not in best or row.median.output_tok_s > best[key].median.output_tok_s:
            best[key] = row
    return list(best.values())


def _row(repeats: Sequence[Measurement]) -> Row:
    columns = {name: [getattr(m.figures, name) for m in repeats] for name in FIGURES}
    return Row(
        system=repeats[0].system,
        family=repeats[0].family,
        median=Figures(**{name: statistics.median(values) for name, values in columns.items()}),
        least=Figures(**{name: min(values) for name, values in columns.items()}),
        greatest=Figures(**{name: max(values) for name, values in columns.items()}),
        num_repeats=len(repeats),
        failed=sum(m.failed for m in repeats),
    )


def _divide(ours: Figures, theirs: Figures) -> Figures:
    quotients = {}
    for name in FIGURES:
        below = getattr(theirs, name)
        quotients[name] = getattr(ours, name) / below if below else math.nan
    return Figures(**quotients)
