"""Schemathesis against a server: what /openapi.json allows, and much that it does not."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..conftest import StartServer
from ..server.test_schemathesis import ADMIN_KEY, CHECKS
from .drill_result import DrillResult

HOOKS = Path(__file__).resolve().parents[1] / "server"
FLAGS = ("--max-model-len", "64", "--max-num-seqs", "8", "--admin-key", ADMIN_KEY)


def drill(seconds: int, seed: int, start_server: StartServer) -> DrillResult:
    """Requests for so long; every answer must be one that the description has."""
    with tempfile.TemporaryDirectory() as folder, start_server(*FLAGS) as server:
        report = Path(folder) / "report.ndjson"
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json"),
                *("--checks", ",".join(CHECKS), "--seed", str(seed), "--workers", "2"),
                *("--phases", "coverage,fuzzing", "--max-time", str(seconds)),
                *("--continue-on-failure", "--header", f"Authorization: Bearer {ADMIN_KEY}"),
                *("--request-timeout", "60", "--warnings", "off", "--no-color"),
                *("--generation-database", "none"),
                *("--report", "ndjson", "--report-ndjson-path", str(report)),
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(HOOKS),
                "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        server.wait_idle()
        blocks = int(server.gauge("octavo_kv_blocks_used"))
        assert server.gauge("octavo_engine_restarts_total") == 0
        tried, failed = counts(report)
    if run.returncode != 0:
        print(f"schemathesis, seed {seed}:\n{run.stdout[-6000:]}{run.stderr[-2000:]}")
    return DrillResult(
        name="schemathesis",
        tried=tried,
        survived=tried - max(failed, int(run.returncode != 0)),
        blocks_leaked=blocks,
        seeds=() if run.returncode == 0 else (seed,),
        note="requests made from /openapi.json; no 5xx, and status, headers and body as described",
    )


def counts(report: Path) -> tuple[int, int]:
    """Answers that came, and those of which a check failed."""
    tried, failed = 0, 0
    for line in report.read_text().splitlines():
        scenario = json.loads(line).get("ScenarioFinished")
        recorder = scenario["recorder"] if scenario else {}
        answers = recorder.get("interactions") or {}
        tried += sum(one.get("response") is not None for one in answers.values())
        checks = recorder.get("checks") or {}
        failed += sum(any(c.get("status") == "failure" for c in one) for one in checks.values())
    return tried, failed
