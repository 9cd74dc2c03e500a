"""What the server's own flags change for clients: keys, names, and the chat template."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import openai
import pytest
from openai import OpenAI

KEYS = ("first-key", "second-key")
NAMES = ("main-name", "other-name")
TEMPLATE = """{% for message in messages %}
{%- if message['role'] not in ('user', 'assistant') -%}
{{ raise_exception('only user and assistant may speak, not ' + message['role']) }}
{%- endif -%}
[{{ message['role'] }}] {{ message['content'] }}
{% endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %}"""


@pytest.fixture(scope="module")
def flagged(
    start_server: Callable[..., AbstractContextManager], tmp_path_factory: pytest.TempPathFactory
) -> Iterator:
    """A server with two keys, two names for its model, and a template of its own."""
    template: Path = tmp_path_factory.mktemp("template") / "strict.jinja"
    template.write_text(TEMPLATE)
    flags = [flag for key in KEYS for flag in ("--api-key", key)]
    flags += [flag for name in NAMES for flag in ("--served-model-name", name)]
    with start_server("--dtype", "float32", *flags, "--chat-template", str(template)) as server:
        yield server


@pytest.fixture(scope="module")
def client(flagged) -> Iterator[OpenAI]:
    """The official client with a right key."""
    with OpenAI(base_url=flagged.url + "/v1", api_key=KEYS[0], max_retries=0) as client:
        yield client


@pytest.mark.parametrize("key", KEYS)
def test_each_of_several_keys_opens_the_api(key: str, client: OpenAI) -> None:
    answer = client.with_options(api_key=key).completions.create(
        model=NAMES[0], prompt="Hi", max_tokens=1
    )
    assert answer.choices


@pytest.mark.parametrize("key", ["wrong", "first-ke", "first-key2", "first-key second-key"])
def test_a_wrong_key_is_an_authentication_error(key: str, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key=key).models.list()
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "invalid_request_error"
    assert key not in caught.value.message


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "first-key", "Basic first-key", "Bearer first-key second-key"],
)
def test_what_is_no_bearer_token_is_refused(authorization: str | None, flagged) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = flagged.get("/v1/models", headers=headers)
    assert answer.status_code == 401
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_bearer_scheme_may_be_written_in_any_case(flagged) -> None:
    answer = flagged.get("/v1/models", headers={"Authorization": f"bEARER {KEYS[1]}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ping", "/livez", "/readyz", "/version", "/metrics"])
def test_probes_version_and_metrics_need_no_key(path: str, flagged) -> None:
    assert flagged.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]
)
def test_routes_that_use_the_model_are_guarded(path: str, flagged) -> None:
    assert flagged.post(path, json={"prompt": "Hi"}).status_code == 401


@pytest.mark.parametrize(
    "path", ["//tokenize", "/v1/../tokenize", "/openapi.json", "/docs", "/load"]
)
def test_no_spelling_of_a_path_gets_past_the_keys(path: str, flagged) -> None:
    assert flagged.get(path).status_code == 401


def test_every_served_name_is_listed_with_the_same_model_behind(client: OpenAI) -> None:
    models = client.models.list().data
    assert [card.id for card in models] == list(NAMES)
    assert len({card.root for card in models}) == 1


def test_answers_bear_the_name_that_was_asked_for_and_metrics_the_first(
    flagged, client: OpenAI
) -> None:
    for name in NAMES:
        answer = client.completions.create(model=name, prompt="Hi", max_tokens=1)
        assert answer.model == name
    labels = {
        sample.split('model_name="')[1].split('"')[0]
        for sample in flagged.metrics()
        if "model_name=" in sample
    }
    assert labels == {NAMES[0]}


def test_the_templates_refusal_is_a_bad_request_in_its_words(client: OpenAI) -> None:
    messages = [{"role": "narrator", "content": "It was a dark night."}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAMES[0], messages=messages, max_tokens=1)
    assert "only user and assistant may speak, not narrator" in caught.value.message
    assert caught.value.param == "messages"


def test_the_given_template_replaces_the_models_own(flagged, client: OpenAI) -> None:
    headers = {"Authorization": f"Bearer {KEYS[0]}"}

    def tokens(**body) -> list[int]:
        return flagged.post("/tokenize", json=body, headers=headers).json()["tokens"]

    messages = [{"role": "user", "content": "Good morning"}]
    assert tokens(messages=messages) == tokens(prompt="[user] Good morning\n[assistant]")
