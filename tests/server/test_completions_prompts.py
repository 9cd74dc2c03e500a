"""Prompts cut to length, tokens shown by id, and what is refused rather than ignored."""

from typing import Any

import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TEXT = "One two three four five six seven eight nine ten"
USER = [{"role": "user", "content": "Hello"}]


def ids_of(server, text: str, **options: Any) -> list[int]:
    return server.post("/tokenize", json={"prompt": text, **options}).json()["tokens"]


def complete(server, **body: Any) -> dict[str, Any]:
    answer = server.post(COMPLETIONS, json={"max_tokens": 2, "temperature": 0, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("as_ids", [False, True])
def test_a_prompt_is_truncated_on_either_side(side: str, as_ids: bool, server) -> None:
    ids = ids_of(server, TEXT)
    answer = complete(
        server,
        prompt=ids if as_ids else TEXT,
        truncate_prompt_tokens=3,
        truncation_side=side,
        return_token_ids=True,
        echo=True,
    )
    kept = ids[-3:] if side == "left" else ids[:3]
    (choice,) = answer["choices"]
    assert choice["prompt_token_ids"] == kept
    assert answer["usage"]["prompt_tokens"] == 3
    shown = " eight nine ten" if side == "left" else "One two three"
    assert choice["text"].startswith(shown)


def test_a_shorter_prompt_stays_as_it_is(server) -> None:
    answer = complete(server, prompt=TEXT, truncate_prompt_tokens=500)
    assert answer["usage"]["prompt_tokens"] == len(ids_of(server, TEXT))


@pytest.mark.parametrize("limit", [0, -2, 8193])
def test_a_truncation_out_of_range_is_refused(limit: int, refuse) -> None:
    name = "truncate_prompt_tokens"
    body = {"prompt": TEXT, name: limit}
    refuse(COMPLETIONS, body, f"{name} must be -1 or in [1, 8192], got {limit}.", param=name)


def test_text_that_cannot_fit_is_refused_by_its_characters(refuse) -> None:
    # The longest of the model's tokens has 162 bytes.
    body = {"prompt": "a" * (8192 * 162 + 1)}
    refuse(COMPLETIONS, body, "maximum context length", "characters", param="prompt")


def test_token_ids_of_prompt_and_answer_come_if_asked_for(server) -> None:
    whole = complete(server, prompt=[TEXT, "Hi"], return_token_ids=True)
    for prompt, choice in zip([TEXT, "Hi"], whole["choices"], strict=True):
        assert choice["prompt_token_ids"] == ids_of(server, prompt)
        assert len(choice["token_ids"]) == 2
        spelled = server.post("/detokenize", json={"tokens": choice["token_ids"]}).json()["prompt"]
        assert spelled == choice["text"]


def test_streamed_token_ids_join_to_the_unstreamed_ones(server, client, model: str) -> None:
    options = {"prompt": TEXT, "max_tokens": 6, "temperature": 0}
    (whole,) = complete(server, **options, return_token_ids=True)["choices"]
    extra = {"return_token_ids": True}
    stream = client.completions.create(model=model, **options, stream=True, extra_body=extra)
    parts = [chunk.choices[0].model_dump() for chunk in stream]
    assert [i for part in parts for i in part["token_ids"]] == whole["token_ids"]
    assert parts[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert not any("prompt_token_ids" in part for part in parts[1:])


def test_logprobs_may_name_tokens_by_id(server) -> None:
    (plain,) = complete(server, prompt=TEXT, logprobs=2, return_token_ids=True)["choices"]
    (named,) = complete(server, prompt=TEXT, logprobs=2, return_tokens_as_token_ids=True)["choices"]
    assert named["logprobs"]["tokens"] == [f"token_id:{i}" for i in plain["token_ids"]]
    assert all(key.startswith("token_id:") for key in named["logprobs"]["top_logprobs"][0])
    assert named["logprobs"]["text_offset"] == plain["logprobs"]["text_offset"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("suffix", "the end"),
        ("prompt_embeds", "AAAA"),
        ("use_beam_search", True),
        ("length_penalty", 1.5),
        ("logits_processors", ["x"]),
        ("best_of", 3),
    ],
)
def test_what_cannot_be_honoured_is_refused_and_not_ignored(name: str, value: Any, refuse) -> None:
    refuse(COMPLETIONS, {"prompt": "a", name: value}, name, "not supported", param=name)


@pytest.mark.parametrize(
    "harmless",
    [
        {"suffix": None, "use_beam_search": False, "length_penalty": 1.0, "best_of": 2, "n": 2},
        {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"},
        {"spaces_between_special_tokens": False, "a_field_of_tomorrow": [1, 2, {"x": None}]},
    ],
)
def test_what_asks_for_nothing_that_we_lack_is_tolerated(harmless: dict, server) -> None:
    assert complete(server, prompt="a", **{"temperature": 1, **harmless})["choices"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("value", "words"), [(0, "must be at least 1, got 0."), (9000, "requested 9000 output tokens")]
)
def test_a_refused_limit_bears_the_name_that_the_client_gave_it(
    name: str, value: int, words: str, refuse
) -> None:
    refuse(CHAT, {"messages": USER, name: value}, words, param=name)


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, "/tokenize"])
def test_a_path_with_a_slash_at_its_end_is_not_found_and_not_redirected(path: str, refuse) -> None:
    refuse(path + "/", {"prompt": "a"}, "Not Found", status=404)
