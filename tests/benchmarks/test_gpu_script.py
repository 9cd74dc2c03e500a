"""The GPU benchmark script, end to end without a GPU: every section, nothing but its few needs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {"ceilings", "checks", "kernels", "steps", "serving", "peers"}
# A machine with a GPU has torch, triton and numpy; the script must not want these.
ABSENT = ("fastapi", "uvicorn", "pydantic", "gguf", "msgspec", "zmq", "typer", "prometheus_client")

RUN_WITHOUT = f"""
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_every_section_runs_without_a_gpu(tmp_path: Path) -> None:
    script, result = ROOT / "benchmarks/gpu/run.py", tmp_path / "gpu.json"
    command = [sys.executable, "-c", RUN_WITHOUT, str(script), "--tiny", "--json", str(result)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    content = json.loads(result.read_text())
    assert content["sections"].keys() == SECTIONS
    for section in content["sections"].values():
        assert section["rows"]
        assert not section["errors"]
    assert all(row["pass"] for row in content["sections"]["checks"]["rows"])


@pytest.mark.slow
def test_a_run_with_tiny_shapes_claims_no_target(tmp_path: Path) -> None:
    script, result = ROOT / "benchmarks/gpu/run.py", tmp_path / "gpu.json"
    command = [sys.executable, str(script), "--tiny", "--only", "ceilings", "--json", str(result)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    content = json.loads(result.read_text())
    assert content["sections"].keys() == {"ceilings"}
    assert {target["verdict"] for target in content["targets"]} == {"not measured"}
