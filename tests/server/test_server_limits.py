"""A server with a short context, defaults for sampling, and its own limit on log-probabilities."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MAX_MODEL_LEN = 64
USER = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def small_server(start_server: Callable[..., AbstractContextManager]) -> Iterator:
    flags = ["--max-model-len", str(MAX_MODEL_LEN), "--max-logprobs", "-1"]
    defaults = '{"temperature": 0.0, "max_new_tokens": 40, "top_p": 7, "do_sample": true}'
    flags += ["--override-generation-config", defaults]
    with start_server("--dtype", "float32", *flags) as server:
        yield server


@pytest.fixture
def small(small_server) -> Iterator:
    """The server; after the test it is idle with every block back."""
    yield small_server
    small_server.wait_idle()


def ask(server, path: str = COMPLETIONS, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = server.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_what_a_request_leaves_unset_is_the_servers_default(small) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 12}
    greedy = ask(small, **body, temperature=0)["choices"][0]["text"]
    assert [ask(small, **body)["choices"][0]["text"] for _ in range(2)] == [greedy, greedy]
    sampled = {ask(small, **body, temperature=1.5, seed=i)["choices"][0]["text"] for i in range(3)}
    assert sampled - {greedy}


def test_a_chats_defaults_are_the_same(small) -> None:
    body = {"messages": USER, "max_tokens": 8}
    (greedy,) = ask(small, CHAT, **body, temperature=0)["choices"]
    (default,) = ask(small, CHAT, **body)["choices"]
    assert default["message"] == greedy["message"]


def test_max_new_tokens_of_the_defaults_bounds_every_answer(small) -> None:
    for wanted in (None, 50):
        answer = ask(small, prompt="Hi", max_tokens=wanted, ignore_eos=True)
        assert answer["usage"]["completion_tokens"] == 40


def test_the_defaults_are_told_at_start_and_bad_ones_with_a_warning(small) -> None:
    log = small.log_path.read_text()
    assert "sampling defaults of requests: temperature 0.0, max_new_tokens 40" in log
    assert "ignored: top_p must be in (0, 1], got 7" in log


def test_max_tokens_null_is_the_rest_of_the_context(small) -> None:
    prompt = list(range(100, 100 + MAX_MODEL_LEN - 5))
    answer = ask(small, prompt=prompt, max_tokens=None, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("as_ids", [False, True])
def test_minus_1_truncates_to_what_leaves_room_for_the_answer(as_ids: bool, small) -> None:
    prompt: Any = list(range(100, 300)) if as_ids else "very " * 200
    answer = ask(small, prompt=prompt, truncate_prompt_tokens=-1, max_tokens=7, ignore_eos=True)
    assert answer["usage"]["prompt_tokens"] == MAX_MODEL_LEN - 7
    assert answer["usage"]["completion_tokens"] == 7


def test_with_a_limit_of_minus_1_the_whole_vocabulary_may_be_asked_for(small) -> None:
    answer = ask(small, prompt="Hi", max_tokens=1, logprobs=-1, return_tokens_as_token_ids=True)
    (top,) = answer["choices"][0]["logprobs"]["top_logprobs"]
    assert len(top) == 49152
    assert ask(small, prompt="Hi", max_tokens=1, logprobs=30)["choices"]


def test_an_unknown_field_is_logged_once_with_its_endpoint(small) -> None:
    for _ in range(3):
        ask(small, prompt="Hi", max_tokens=1, of_tomorrow=1)
    ask(small, CHAT, messages=USER, max_tokens=1, of_tomorrow=1)
    ask(small, prompt="Hi", max_tokens=1, metadata={"a": "b"})  # known, and harmless
    log = small.log_path.read_text()
    for path in (COMPLETIONS, CHAT):
        assert log.count(f"{path}: ignored the unknown field 'of_tomorrow'") == 1
    assert "'metadata'" not in log
