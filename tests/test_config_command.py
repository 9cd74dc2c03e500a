"""`octavo config`, as an operator runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def config(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "octavo", "config", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )


def test_every_setting_is_shown_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text("max_num_seqs: 3\nport: 1\n")
    shown = config(
        "--config", str(file), "--api-key", "sk-secret", "--format", "json", OCTAVO_PORT="2"
    )
    settings = json.loads(shown.stdout)
    assert settings["port"] == {"value": 2, "source": "environment OCTAVO_PORT"}
    assert settings["max_num_seqs"] == {"value": 3, "source": f"file {file}"}
    assert settings["api_key"] == {"value": "1 key(s)", "source": "command line"}
    assert settings["block_size"] == {"value": 16, "source": "default"}
    assert "sk-secret" not in shown.stdout + shown.stderr


def test_the_table_names_value_and_source() -> None:
    lines = config("--kv-cache-memory", "1GiB").stdout.splitlines()
    assert [line.split() for line in lines if line.split()[:1] == ["kv_cache_memory"]] == [
        ["kv_cache_memory", "1073741824", "command", "line"]
    ]


def test_its_yaml_is_read_back_the_same(tmp_path: Path) -> None:
    first = config("--format", "yaml", "--served-model-name", "a,b", "--port", "9")
    file = tmp_path / "octavo.yaml"
    file.write_text(first.stdout)
    again = config("--format", "yaml", OCTAVO_CONFIG=str(file))
    assert again.stdout == first.stdout
    assert "served_model_name:\n- a\n- b\n" in first.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "99999"), "--port: "),
        (("--config", "/nowhere.yaml"), "--config /nowhere.yaml: no such file"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_1(
    arguments: tuple[str, ...], message: str
) -> None:
    failed = config(*arguments)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"octavo: {message}") and failed.stderr.count("\n") == 1
