"""What a request costs before the engine has it: rendering and tokenizing have limits as well."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ServerProcess, StartServer
from .test_disconnects import raw_request

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = [{"role": "user", "content": "Hello"}]
TALK = {"messages": USER, "max_tokens": 1}
# Runs until the sandbox stops it, five seconds later; one at a time does.
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
CAPACITY = 24
DEADLINE_S = 60.0  # half of what so many such renderings take


@pytest.fixture(scope="module")
def slow_templates(
    start_tiny: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    template: Path = tmp_path_factory.mktemp("template") / "endless.jinja"
    template.write_text(ENDLESS)
    flags = ["--max-num-seqs", "2", "--max-queued-requests", str(CAPACITY - 2)]
    with start_tiny("--chat-template", str(template), *flags) as server:
        yield server


def has_room_for(server: ServerProcess, num_choices: int) -> bool:
    body = {"prompt": "a", "max_tokens": 1, "n": num_choices, "temperature": 1}
    status = server.post(COMPLETIONS, json=body).status_code
    assert status in (200, 503)
    return status == 200


@pytest.mark.slow
def test_prompts_in_the_making_take_room_until_their_clients_leave(
    slow_templates: ServerProcess, wait_until: Callable[..., None]
) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(CAPACITY):
            clients.enter_context(raw_request(slow_templates, CHAT, TALK))
        wait_until(lambda: not has_room_for(slow_templates, 1), DEADLINE_S)
        for path in (CHAT, "/tokenize"):
            refused = slow_templates.post(path, json={"messages": USER})
            assert refused.status_code == 503
            assert refused.headers["Retry-After"]
            assert "the queue is full" in refused.json()["error"]["message"]
    wait_until(lambda: has_room_for(slow_templates, CAPACITY), DEADLINE_S)


@pytest.mark.slow
@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
def test_a_deadline_holds_while_the_prompt_is_made(
    path: str, slow_templates: ServerProcess
) -> None:
    body = {"messages": USER}
    late = slow_templates.post(path, json=body, headers={"X-Request-Timeout": "0.3"})
    assert late.status_code == 504
    assert "time was over" in late.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
def test_a_conversation_of_too_many_characters_is_never_rendered(
    path: str, slow_templates: ServerProcess
) -> None:
    for content in ("a" * 1_000_000, [{"type": "text", "text": "a" * 500_000}] * 2):
        body = {"messages": [{"role": "user", "content": content}]}
        refused = slow_templates.post(path, json=body)
        assert refused.status_code == 400
        assert "your prompt has 1000000 characters" in refused.json()["error"]["message"]


@pytest.mark.slow
def test_a_request_that_never_fits_in_the_queue_is_a_bad_one(slow_templates: ServerProcess) -> None:
    for question in ({"prompt": "a", "n": CAPACITY + 1}, {"prompt": ["a"] * (CAPACITY + 1)}):
        refused = slow_templates.post(COMPLETIONS, json={**question, "max_tokens": 1})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["param"], "--max-queued-requests" in error["message"]) == ("n", True)


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
@pytest.mark.parametrize(
    "messages",
    [
        USER * 16_385,
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 100}] * 170,
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 100}] * 170,
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 20_000}],
    ],
    ids=["messages", "parts of many", "calls", "parts of one"],
)
def test_a_conversation_of_too_many_messages_is_refused(
    path: str, messages: list[dict[str, Any]], refuse: Callable[..., None]
) -> None:
    refuse(path, {"messages": messages}, "at most 16384", param="messages")


def test_a_text_longer_than_any_prompt_is_not_tokenized(refuse: Callable[..., None]) -> None:
    # The longest of the model's tokens has 162 bytes.
    text = "a" * (8192 * 162 + 1)
    refuse("/tokenize", {"prompt": text}, "maximum context length", "characters", param="prompt")


def test_more_tokens_than_any_text_has_are_not_decoded(refuse: Callable[..., None]) -> None:
    refuse("/detokenize", {"tokens": [1] * 8193}, "context length is 8192", "8193", param="tokens")
