"""The command-line tool `llm`, with the server in its extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
MODELS = """\
- model_id: octavo
  model_name: {model}
  api_base: {base_url}
  api_key_name: octavo
  supports_schema: true
  supports_tools: true
- model_id: octavo-text
  model_name: {model}
  api_base: {base_url}
  api_key_name: octavo
  completion: true
"""
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run_llm(endpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`llm ARGUMENTS…` in a folder of its own; gives what it prints."""
    folder: Path = tmp_path_factory.mktemp("llm")
    text = MODELS.format(model=endpoint.model, base_url=endpoint.base_url)
    (folder / "extra-openai-models.yaml").write_text(text)
    (folder / "keys.json").write_text(json.dumps({"octavo": endpoint.api_key}))
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


def options(**values: Any) -> list[str]:
    return [part for name, value in values.items() for part in ("-o", name, str(value))]


def test_a_conversation_streamed_then_whole_is_logged_with_its_tokens(run_llm: Run) -> None:
    limits = options(temperature=0, max_tokens=8)
    printed = [
        run_llm("-m", "octavo", "Name a river.", "-s", "You are brief.", *limits),
        run_llm("-c", "Name another one.", "--no-stream", *limits),
    ]
    first, second = json.loads(run_llm("logs", "--json", "-n", "2"))
    assert [first["response"] + "\n", second["response"] + "\n"] == printed
    assert second["conversation_id"] == first["conversation_id"]
    assert 0 < first["output_tokens"] <= 8 < first["input_tokens"]
    assert second["input_tokens"] > first["input_tokens"] + first["output_tokens"]


def test_a_text_is_completed(run_llm: Run) -> None:
    limits = options(temperature=0, max_tokens=6)
    assert run_llm("-m", "octavo-text", "One, two, three,", *limits).strip()


def test_a_schema_is_held_to(run_llm: Run) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    limits = options(temperature=0, max_tokens=80)
    answer = json.loads(
        run_llm("-m", "octavo", "Invent a dog.", "--schema", json.dumps(schema), *limits)
    )
    assert set(answer) == {"name", "age"}
    assert 0 <= answer["age"] <= 9


def test_tools_are_offered_to_the_model(run_llm: Run) -> None:
    code = "def river_length(name: str) -> int:\n    'Length in km'\n    return 777"
    limits = options(temperature=0, max_tokens=4)
    run_llm("-m", "octavo", "Name a river.", "--functions", code, *limits)
    (offered,) = json.loads(run_llm("logs", "--json", "-n", "1"))
    assert [tool["name"] for tool in offered["tools"]] == ["river_length"]
    assert offered["input_tokens"] > 100  # the question alone takes 30 to 40
