"""Results of drills, kept in a JSON file, and as a table in docs/reliability.md."""

import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .drill_result import DrillResult

BEGIN, END = "<!-- drills: begin -->", "<!-- drills: end -->"
HEAD = (
    "| drill | tried | survived | requests lost | blocks leaked | seed | seconds | what |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
)


def row_of(name: str, result: DrillResult, seed: int, seconds: float, chip: str) -> dict[str, Any]:
    """What is kept of a run; `name` is the drill's on the command line."""
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    run = {"drill": name, "seed": seed, "seconds": round(seconds), "date": date, "machine": chip}
    return {**run, **asdict(result), "seeds": list(result.seeds)}


def merge(rows: list[dict[str, Any]], path: Path, order: list[str]) -> list[dict[str, Any]]:
    """Write rows into the file in place of earlier ones of the same drills. Returns all, in order.

    What is not in `order` is a drill no more, and is dropped.
    """
    known = {row["drill"]: row for row in json.loads(path.read_text())} if path.is_file() else {}
    known.update({row["drill"]: row for row in rows})
    kept = [known[name] for name in order if name in known]
    path.write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        f"| {row['name']} | {row['tried']:,} | {row['survived']:,} | {row['requests_lost']:,} "
        f"| {row['blocks_leaked']:,} | {row['seed']} | {row['seconds']:,} | {row['note']} |\n"
        for row in rows
    ]
    return HEAD + "".join(lines)


def write_document(rows: list[dict[str, Any]], path: Path) -> None:
    """Put the table, with what it was measured on, between the document's marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    machines = ", ".join(sorted({row["machine"] for row in rows}))
    dates = sorted({row["date"] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    path.write_text(f"{before}{BEGIN}\n{table(rows)}\nOn {machines}; {when}.\n{END}{after}")
