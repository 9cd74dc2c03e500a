"""What only an operator may do, and how requests and the cache fare when it is done."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from octavo import __version__

ADMIN, CLIENT = "the-admin-key", "a-clients-key"
AS_ADMIN, AS_CLIENT = ({"Authorization": f"Bearer {key}"} for key in (ADMIN, CLIENT))
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
ENDPOINTS = [("GET", "/server_info"), ("POST", "/reset_prefix_cache"), ("POST", "/abort_requests")]
LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 12
ENDLESS = {"max_tokens": 4000, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def guarded_server(start_server: Callable[..., AbstractContextManager]) -> Iterator:
    with start_server("--dtype", "float32", "--api-key", CLIENT, "--admin-key", ADMIN) as server:
        yield server


@pytest.fixture
def guarded(guarded_server) -> Iterator:
    """A server with both kinds of keys; after the test it is idle with every block back."""
    yield guarded_server
    guarded_server.wait_idle()


def administer(server, path: str, body: Any = None) -> dict[str, Any]:
    answer = server.post(path, json=body, headers=AS_ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def complete(server, **body: Any) -> dict[str, Any]:
    answer = server.post(COMPLETIONS, json=body, headers=AS_CLIENT)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_without_an_admin_key_the_endpoints_are_closed_to_everybody(
    method: str, path: str, server
) -> None:
    answer = httpx.request(method, server.url + path, headers=AS_ADMIN, verify=False)
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("PermissionDeniedError", None, 403)
    assert "--admin-key" in error["message"]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("headers", [{}, AS_CLIENT, {"Authorization": f"Basic {ADMIN}"}])
def test_only_an_admin_key_opens_them(
    method: str, path: str, headers: dict[str, str], guarded
) -> None:
    answer = httpx.request(method, guarded.url + path, headers=headers, verify=False)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_an_admin_key_opens_the_rest_of_the_api_too(guarded) -> None:
    assert guarded.get("/v1/models", headers=AS_ADMIN).status_code == 200
    assert guarded.get("/v1/models").status_code == 401


def test_server_info_tells_settings_and_no_keys(guarded) -> None:
    answer = guarded.get("/server_info", headers=AS_ADMIN)
    info = answer.json()
    assert info["version"] == __version__
    assert info["model"].endswith(".gguf")
    assert info["served_model_names"] == ["SmolLM2-135M-Instruct"]
    assert info["max_model_len"] == info["engine"]["max_model_len"] == 8192
    assert info["settings"]["dtype"] == "float32"
    assert info["engine"]["num_blocks"] > 1
    assert ADMIN not in answer.text and CLIENT not in answer.text


def cached_tokens(answer: dict[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_reset_cache_gives_no_prefix_hits(guarded) -> None:
    body = {"prompt": LONG_PROMPT, "max_tokens": 1, "temperature": 0}
    first, second = complete(guarded, **body), complete(guarded, **body)
    assert cached_tokens(second) > 0
    guarded.wait_idle()
    num_cached = guarded.gauge("octavo_kv_blocks_cached")
    assert num_cached > 0
    assert administer(guarded, "/reset_prefix_cache") == {"blocks_forgotten": num_cached}
    assert guarded.gauge("octavo_kv_blocks_cached") == 0
    third = complete(guarded, **body)
    assert cached_tokens(third) == 0
    assert third["choices"] == first["choices"]
    assert cached_tokens(complete(guarded, **body)) > 0  # and it is filled anew


class _Stream:
    """A streamed completion that goes on until somebody ends it."""

    def __init__(self, server, path: str = COMPLETIONS, **body: Any) -> None:
        question = {"prompt": LONG_PROMPT}
        if path == CHAT:
            question = {"messages": [{"role": "user", "content": "Tell me a story."}]}
        body = {**question, **ENDLESS, "stream": True, **body}
        self._context = httpx.stream(
            "POST", server.url + path, json=body, headers=AS_CLIENT, timeout=60, verify=False
        )

    def __enter__(self) -> "_Stream":
        self._lines = self._context.__enter__().iter_lines()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)

    def next(self) -> dict[str, Any] | None:
        """The next event, None for the last one, [DONE]."""
        data = next(line for line in self._lines if line).removeprefix("data: ")
        return None if data == "[DONE]" else json.loads(data)

    def rest(self) -> list[dict[str, Any]]:
        return list(iter(self.next, None))


def test_a_reset_while_a_request_runs_does_not_disturb_it(guarded, wait_until) -> None:
    body = {**ENDLESS, "max_tokens": 64}
    alone = complete(guarded, prompt=LONG_PROMPT, **body)["choices"][0]["text"]

    def was_running() -> bool:
        """False if it may have been over before the reset."""
        with _Stream(guarded, max_tokens=64) as stream:
            events = [stream.next()]
            administer(guarded, "/reset_prefix_cache")
            is_open = guarded.get("/load", headers=AS_CLIENT).json()["server_load"] == 1
            events += stream.rest()
        assert "".join(event["choices"][0]["text"] for event in events) == alone
        return is_open

    wait_until(was_running, 60)


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("spelling", ["as shown", "without its prefix"])
def test_an_aborted_stream_ends_with_that_reason(path: str, spelling: str, guarded) -> None:
    with _Stream(guarded, path) as stream, _Stream(guarded, path, max_tokens=40) as other:
        first = stream.next()
        shown = first["id"] if spelling == "as shown" else first["id"].partition("-")[2]
        assert administer(guarded, "/abort_requests", {"request_ids": [shown]}) == {"aborted": 1}
        events = stream.rest()
        assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None] * len(events[:-1])
        assert events[-1]["choices"][0]["finish_reason"] == "abort"
        assert other.rest()[-1]["choices"][0]["finish_reason"] == "length"


def test_every_choice_of_an_aborted_request_ends(guarded) -> None:
    with _Stream(guarded, n=3, temperature=1, seed=1) as stream:
        request_id = stream.next()["id"]
        body = {"request_ids": [request_id, "cmpl-nobody"]}
        assert administer(guarded, "/abort_requests", body) == {"aborted": 3}
        reasons = [choice["finish_reason"] for e in stream.rest() for choice in e["choices"]]
    assert [reason for reason in reasons if reason] == ["abort"] * 3


def test_an_aborted_request_that_does_not_stream_answers_with_what_it_has(
    guarded, wait_until
) -> None:
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.append(complete(guarded, prompt="Once upon a time", **ENDLESS))

    before = guarded.gauge("octavo_generation_tokens_total")
    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: guarded.gauge("octavo_generation_tokens_total") >= before + 3, 60)
    assert administer(guarded, "/abort_requests", {"all": True}) == {"aborted": 1}
    asking.join(timeout=60)
    (answer,) = answers
    assert answer["choices"][0]["finish_reason"] == "abort"
    assert answer["choices"][0]["text"]
    assert 3 <= answer["usage"]["completion_tokens"] < ENDLESS["max_tokens"]


def test_unknown_ids_abort_nothing(guarded) -> None:
    assert administer(guarded, "/abort_requests", {"request_ids": ["x"]}) == {"aborted": 0}
    assert administer(guarded, "/abort_requests", {"all": True}) == {"aborted": 0}


@pytest.mark.parametrize(
    "body", [{}, {"all": False}, {"all": True, "request_ids": ["a"]}, {"ids": ["a"]}, {"all": 1}]
)
def test_an_abort_that_does_not_say_whom_is_refused(body: dict[str, Any], guarded) -> None:
    answer = guarded.post("/abort_requests", json=body, headers=AS_ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
