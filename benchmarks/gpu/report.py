"""Tables for the terminal, the project's targets, and the JSON of a run."""

import datetime
import json
import math
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from harness import Row, Section

_HIDDEN = ("target", "value")


@dataclass(frozen=True)
class Target:
    """A goal of the project as a ratio within one run; `worst` of its rows counts."""

    name: str
    limit: float
    at_least: bool
    text: str

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = (
    Target("decode attention", 0.85, True, "of copy bandwidth, batch x context >= 64k tokens"),
    Target("decode attention, lone", 0.60, True, "of copy bandwidth, one sequence of 32k"),
    Target("prefill attention", 0.60, True, "of flash scaled_dot_product_attention's speed"),
    Target("fused elementwise", 0.80, True, "of copy bandwidth, 4k tokens x 4096"),
    Target("8B step, batch <= 32", 1.25, False, "times its memory floor"),
    Target("8B step, batch 256", 1.5, False, "times its memory floor"),
    Target("GPU idle", 0.05, False, "of a step at batch 32 of the 0.6B shape"),
    Target("offline throughput", 3.0, True, "times transformers' best"),
)


def print_section(name: str, section: Section) -> None:
    """One line a row; columns that no row has are left out."""
    print(f"\n== {name} ({section.seconds:.0f} s)")
    columns = list(dict.fromkeys(key for row in section.rows for key in row if key not in _HIDDEN))
    columns = [c for c in columns if not c.endswith("_error")]
    lines = [columns, *([_cell(row.get(c, "")) for c in columns] for row in section.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines if section.rows else ():
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    for text in section.errors:
        print(f"  ERROR {text}")
    for text in section.skipped:
        print(f"  skipped {text}")
    sys.stdout.flush()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "ok" if value else "FAIL"
    if isinstance(value, float):
        if value != 0.0 and abs(value) < 1e-3:
            return f"{value:.1e}"
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def judge(rows: list[Row], measured: bool) -> list[dict[str, Any]]:
    """Each target with the worst value of its rows; a run with tiny shapes measures nothing."""
    verdicts = []
    for target in TARGETS:
        values = {
            row["case"]: row["value"]
            for row in rows
            if row.get("target") == target.name and math.isfinite(row["value"])
        }
        verdict: dict[str, Any] = {**asdict(target), "verdict": "not measured"}
        if values and measured:
            worst = (min if target.at_least else max)(values, key=values.__getitem__)
            met = target.is_met(values[worst])
            verdict |= {"verdict": "met" if met else "not met", "worst": worst}
            verdict |= {"value": values[worst], "values": values}
        verdicts.append(verdict)
    return verdicts


def print_verdicts(verdicts: list[dict[str, Any]]) -> None:
    print("\n== targets (the worst case of each)")
    for verdict in verdicts:
        sign = ">=" if verdict["at_least"] else "<="
        line = f"{verdict['verdict']:<12} {verdict['name']}: {sign} {verdict['limit']}"
        line += f" {verdict['text']}"
        if "value" in verdict:
            line += f"; {_cell(verdict['value'])} ({verdict['worst']})"
        print(line)


def environment(device: torch.device) -> dict[str, Any]:
    """What a reader of the figures must know."""
    import triton

    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "device": "none: Triton's interpreter on a CPU",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": getattr(properties, "L2_cache_size", None),
            "cuda": torch.version.cuda,
        }
    return facts


def write_json(
    path: Path,
    facts: dict[str, Any],
    sections: dict[str, Section],
    verdicts: list[dict[str, Any]],
) -> None:
    content = {
        "environment": facts,
        "sections": {name: asdict(section) for name, section in sections.items()},
        "targets": verdicts,
    }
    path.write_text(json.dumps(_finite(content), indent=2) + "\n")


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: they become strings."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
