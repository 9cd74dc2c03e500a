"""Whatever /openapi.json allows, and much that it does not, gets an answer it describes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
ADMIN_KEY = "admin"


@pytest.mark.slow
def test_answers_are_those_that_openapi_json_describes(start_server, tmp_path: Path) -> None:
    """`make schemathesis` does the same for five minutes, in further phases."""
    report = tmp_path / "report.ndjson"
    flags = ("--max-model-len", "64", "--max-num-seqs", "8", "--admin-key", ADMIN_KEY)
    with start_server(*flags) as server:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json"),
                *("--checks", ",".join(CHECKS), "--seed", "1", "--continue-on-failure"),
                *("--phases", "coverage,fuzzing", "--max-examples", "10", "--workers", "2"),
                *("--header", f"Authorization: Bearer {ADMIN_KEY}"),
                *("--request-timeout", "60", "--warnings", "off", "--no-color"),
                *("--report", "ndjson", "--report-ndjson-path", str(report)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        server.wait_idle()
    assert statuses(report) >= {200, 400, 404}


def statuses(report: Path) -> set[int]:
    """Every HTTP status that was seen."""
    found: set[int] = set()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("status_code"), int):
                found.add(value["status_code"])
            for part in value.values():
                look(part)
        elif isinstance(value, list):
            for part in value:
                look(part)

    for line in report.read_text().splitlines():
        look(json.loads(line))
    return found
