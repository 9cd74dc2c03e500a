"""Pages of other origins: shut out unless they are named."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings

from ..conftest import StartServer

OURS, THEIRS = "https://chat.example.org", "https://elsewhere.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


@pytest.mark.parametrize(
    "origin", ["chat.example.org", "https://chat.example.org/", "https://a/b", "null", ""]
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    if origin:
        with pytest.raises(ConfigurationError, match="--allowed-origins"):
            Settings.load({"allowed_origins": [origin]})
    else:
        assert Settings.load({"allowed_origins": [origin]}).allowed_origins == []


@pytest.fixture(scope="module")
def sharing(start_tiny: StartServer) -> Iterator[Any]:
    """A server that wants a key, and whose answers the pages of one other origin may read."""
    flags = ["--allowed-origins", f"{OURS},http://localhost:3000", "--api-key", "the-key"]
    with start_tiny(*flags) as server:
        yield server


def options(server: Any, origin: str) -> httpx.Response:
    headers = {"Origin": origin, **PREFLIGHT}
    return httpx.options(server.url + "/v1/chat/completions", headers=headers, timeout=30)


@pytest.mark.slow
def test_by_default_no_origin_is_let_in(server: Any) -> None:
    answers = [
        server.get("/v1/models", headers={"Origin": OURS}),
        server.get("/metrics", headers={"Origin": OURS}),
        options(server, OURS),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.slow
@pytest.mark.parametrize("origin", [OURS, "http://localhost:3000"])
def test_a_named_origin_may_ask_with_a_key_and_read_the_answer(origin: str, sharing: Any) -> None:
    before = options(sharing, origin)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == origin
    assert "POST" in before.headers["access-control-allow-methods"]
    assert "authorization" in before.headers["access-control-allow-headers"].lower()
    headers = {"Origin": origin, "Authorization": "Bearer the-key"}
    answer = sharing.post("/v1/completions", json={"prompt": "a", "max_tokens": 1}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.slow
def test_a_page_may_read_why_it_was_refused(sharing: Any) -> None:
    answer = sharing.get("/v1/models", headers={"Origin": OURS})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == OURS


@pytest.mark.slow
@pytest.mark.parametrize("origin", [THEIRS, OURS + ".evil.org", "http://chat.example.org", "null"])
def test_another_origin_is_told_nothing(origin: str, sharing: Any) -> None:
    before = options(sharing, origin)
    assert before.status_code == 400
    assert "access-control-allow-origin" not in before.headers
    headers = {"Origin": origin, "Authorization": "Bearer the-key"}
    answer = sharing.get("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers
