"""Whatever /openapi.json allows, and much that it does not, gets an answer that it describes."""

import json
import os
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
    """`make schemathesis` does the same for five minutes, in all phases."""
    report = tmp_path / "report.ndjson"
    flags = ("--max-model-len", "64", "--max-num-seqs", "8", "--admin-key", ADMIN_KEY)
    with start_server(*flags) as server:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json"),
                *("--checks", ",".join(CHECKS), "--seed", "1", "--generation-deterministic"),
                *("--phases", "fuzzing", "--max-examples", "25", "--continue-on-failure"),
                *("--header", f"Authorization: Bearer {ADMIN_KEY}"),
                *("--request-timeout", "60"),
                *("--warnings", "off", "--no-color", "--report", "ndjson"),
                *("--report-ndjson-path", str(report)),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent),
                "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        server.wait_idle()
    seen = answers(report)
    for path in ("/v1/completions", "/v1/chat/completions"):
        of_path = {(status, kind) for label, status, kind in seen if label == f"POST {path}"}
        assert of_path >= {(200, "application/json"), (200, "text/event-stream; charset=utf-8")}
        assert (400, "application/json") in of_path


def answers(report: Path) -> set[tuple[str, int, str]]:
    """Operation, status and content type of every answer."""
    found = set()
    for line in report.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished")
        recorder = scenario["recorder"] if scenario else {}
        for interaction in (recorder.get("interactions") or {}).values():
            if (response := interaction.get("response")) is not None:
                kind = (response["headers"].get("content-type") or [""])[0]
                found.add((recorder["label"], response["status_code"], kind))
    return found
