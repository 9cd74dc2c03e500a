"""A template that does not end costs its own request and nobody else's."""

import threading
from pathlib import Path
from typing import Any

import pytest

from ..conftest import StartServer
from .hostile_templates import NESTED_LOOPS, SHARED_HALVES, TALK

pytestmark = pytest.mark.slow


def test_others_are_served_while_a_requests_template_runs(start_tiny: StartServer) -> None:
    with start_tiny("--trust-request-chat-template") as server:
        _others_are_served(server, {"chat_template": SHARED_HALVES}, "chat_template")


def test_others_are_served_while_the_models_template_runs(
    start_tiny: StartServer, tmp_path: Path
) -> None:
    template = tmp_path / "endless.jinja"
    template.write_text("{% if messages[0].content == 'loop' %}" + NESTED_LOOPS + "{% endif %}.")
    with start_tiny("--chat-template", str(template)) as server:
        talk = [{"role": "user", "content": "loop"}]
        _others_are_served(server, {"messages": talk}, "messages")


def _others_are_served(server: Any, hostile: dict[str, Any], param: str) -> None:
    fair = {"messages": TALK[:1], "max_tokens": 2}
    refused: list[Any] = []

    def attack() -> None:
        refused.append(server.post("/v1/chat/completions", json={**fair, **hostile}))

    attacker = threading.Thread(target=attack)
    attacker.start()
    served = 0
    while attacker.is_alive():
        assert server.post("/v1/chat/completions", json=fair).status_code == 200
        served += 1
    attacker.join()
    assert served > 1  # the last one may have been answered after the attack
    assert refused[0].status_code == 400
    error = refused[0].json()["error"]
    assert "the chat template was stopped: it takes more than 5 s" in error["message"]
    assert error["param"] == param
    assert server.post("/v1/chat/completions", json=fair).status_code == 200
