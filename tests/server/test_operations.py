"""Everything but generation: models, tokens, probes, version, request ids, and unknown paths."""

import re

import httpx
import pytest

from octavo import __version__

MODEL = "SmolLM2-135M-Instruct"


def test_models_are_listed_with_their_context(server) -> None:
    answer = server.get("/v1/models").json()
    assert answer["object"] == "list"
    (card,) = answer["data"]
    assert (card["id"], card["object"], card["owned_by"]) == (MODEL, "model", "octavo")
    assert card["max_model_len"] == 8192
    assert isinstance(card["created"], int)
    assert card["root"].endswith(".gguf")
    assert card["parent"] is None


def test_a_model_is_described_by_its_name(server) -> None:
    (card,) = server.get("/v1/models").json()["data"]
    answer = server.get(f"/v1/models/{MODEL}")
    assert (answer.status_code, answer.json()) == (200, card)


@pytest.mark.parametrize("name", ["other", "org/other", "a/b/c", "%F0%9F%98%80", ""])
def test_a_model_that_is_not_served_is_not_found(name: str, server) -> None:
    answer = server.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", "model", 404)


def test_load_counts_the_choices_that_wait_or_run(server, wait_until) -> None:
    assert server.get("/load").json() == {"server_load": 0}
    body = {"prompt": "a", "max_tokens": 2000, "ignore_eos": True, "n": 2, "stream": True}
    with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        assert server.get("/load").json() == {"server_load": 2}
    wait_until(lambda: server.get("/load").json() == {"server_load": 0}, 30)


@pytest.mark.parametrize(
    "text", ["Hello, world!", "  two spaces\n\tand a tab ", "naïve café 北京 😀", "<|im_end|>", ""]
)
def test_text_survives_tokenizing_and_detokenizing(text: str, server) -> None:
    tokenized = server.post("/tokenize", json={"prompt": text}).json()
    assert set(tokenized) == {"count", "max_model_len", "tokens"}
    assert tokenized["count"] == len(tokenized["tokens"])
    assert tokenized["max_model_len"] == 8192
    answer = server.post("/detokenize", json={"tokens": tokenized["tokens"]})
    assert answer.json() == {"prompt": text}


def test_token_texts_come_if_asked_for(server) -> None:
    body = {"prompt": "Hello, world", "return_token_strs": True}
    answer = server.post("/tokenize", json=body).json()
    assert answer["token_strs"] == ["Hello", ",", " world"]
    assert len(answer["tokens"]) == 3


def test_messages_are_tokenized_by_the_chat_template(server) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    spelled = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"

    def text(**body) -> str:
        tokens = server.post("/tokenize", json=body).json()["tokens"]
        return server.post("/detokenize", json={"tokens": tokens}).json()["prompt"]

    assert text(messages=messages) == spelled + "<|im_start|>assistant\n"
    assert text(messages=messages, add_generation_prompt=False) == spelled


def test_tokenize_counts_a_chat_as_its_completion_does(server) -> None:
    messages = [{"role": "user", "content": "How many tokens is this?"}]
    count = server.post("/tokenize", json={"messages": messages}).json()["count"]
    body = {"messages": messages, "max_tokens": 1}
    usage = server.post("/v1/chat/completions", json=body).json()["usage"]
    assert usage["prompt_tokens"] == count


@pytest.mark.parametrize("path", ["/health", "/ping", "/livez", "/readyz"])
def test_probes_answer_200_without_a_body(path: str, server) -> None:
    answer = server.get(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_version_is_the_packages(server) -> None:
    assert server.get("/version").json() == {"version": __version__}


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/metrics", "/nowhere"])
def test_a_clients_request_id_is_echoed(path: str, server) -> None:
    answer = server.get(path, headers={"X-Request-Id": "trace-me_1.2:3"})
    assert answer.headers["x-request-id"] == "trace-me_1.2:3"


@pytest.mark.parametrize("given", [None, "", "x" * 129, "two words"])
def test_without_a_usable_request_id_one_is_made(given: str | None, server) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    made = [server.get("/version", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert made[0] != made[1]


def test_an_answers_id_is_its_request_id_and_the_bodys_own_wins(server) -> None:
    body = {"prompt": "Hi", "max_tokens": 1}
    headers = {"X-Request-Id": "from-the-header"}
    answer = server.post("/v1/completions", json=body, headers=headers)
    assert answer.json()["id"] == "cmpl-from-the-header"
    named = {**body, "request_id": "from-the-body"}
    answer = server.post("/v1/completions", json=named, headers=headers)
    assert answer.json()["id"] == "cmpl-from-the-body"
    assert answer.headers["x-request-id"] == "from-the-header"


def test_two_requests_with_one_id_do_not_collide(server) -> None:
    body = {"prompt": ["One", "Two"], "max_tokens": 2, "n": 2, "request_id": "same", "seed": 1}
    first, second = (server.post("/v1/completions", json=body) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["choices"] == second.json()["choices"]


def test_the_openapi_document_describes_every_route(server) -> None:
    document = server.get("/openapi.json").json()
    assert document["info"]["version"] == __version__
    assert {
        *("/v1/completions", "/v1/chat/completions", "/v1/models", "/tokenize", "/detokenize"),
        *("/health", "/ping", "/livez", "/readyz", "/version", "/metrics", "/load"),
        *("/v1/models/{name}", "/server_info", "/reset_prefix_cache", "/abort_requests"),
    } == set(document["paths"])
    schemas = document["components"]["schemas"]
    for name in ("CompletionRequest", "ChatCompletionRequest", "ErrorResponse"):
        assert schemas[name]["properties"]
    for path in ("/v1/completions", "/v1/chat/completions"):
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        assert set(content) == {"application/json", "text/event-stream"}
    assert "swagger" in server.get("/docs").text


def test_what_a_body_may_ask_for_is_in_the_openapi_document(server) -> None:
    schemas = server.get("/openapi.json").json()["components"]["schemas"]
    for name in ("CompletionRequest", "ChatCompletionRequest"):
        assert {"response_format", "structured_outputs", "logit_bias", "min_p", "priority"} <= set(
            schemas[name]["properties"]
        )
    assert "json_schema" in schemas["ResponseFormat"]["properties"]
    assert set(schemas["StructuredOutputs"]["properties"]) == {
        *("json", "json_object", "regex", "choice", "grammar", "structural_tag"),
    }


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/nothing", "/v2/completions"])
def test_an_unknown_path_is_not_found_in_openais_shape(path: str, server) -> None:
    answer = server.get(path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("NotFoundError", None, 404)


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/completions", "POST"), ("/v1/chat/completions", "POST")]
)
def test_a_wrong_method_is_refused_in_openais_shape(path: str, allowed: str, server) -> None:
    answer = server.get(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("MethodNotAllowedError", None, 405)
    assert server.post("/v1/models", json={}).status_code == 405
