"""`echo` and `prompt_logprobs`: the prompt given back, and judged."""

from itertools import pairwise
from typing import Any

import pytest
from openai import OpenAI

PROMPT = "The capital of France is"
TOKENS = ["The", " capital", " of", " France", " is"]
GREEDY = {"max_tokens": 4, "temperature": 0}
COMPLETIONS = "/v1/completions"


def completion(client: OpenAI, model: str, **options: Any):
    return client.completions.create(model=model, **{"prompt": PROMPT, **GREEDY, **options})


def ids_of(server, text: str) -> list[int]:
    return server.post("/tokenize", json={"prompt": text}).json()["tokens"]


def test_an_echo_is_the_prompt_before_the_answer(client: OpenAI, model: str) -> None:
    plain, echoed = completion(client, model), completion(client, model, echo=True)
    assert echoed.choices[0].text == PROMPT + plain.choices[0].text
    assert echoed.usage.completion_tokens == plain.usage.completion_tokens == 4


@pytest.mark.parametrize("logprobs", [None, 2])
def test_an_echo_of_0_tokens_is_the_prompt_alone(
    logprobs: int | None, client: OpenAI, model: str
) -> None:
    answer = completion(client, model, echo=True, max_tokens=0, logprobs=logprobs)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == (PROMPT, "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 0)
    assert answer.usage.total_tokens == 5
    if logprobs is None:
        assert choice.logprobs is None
    else:
        assert choice.logprobs.tokens == TOKENS


def test_echoed_logprobs_are_the_prompts_and_then_the_answers(client: OpenAI, model: str) -> None:
    plain = completion(client, model, logprobs=2).choices[0].logprobs
    (choice,) = completion(client, model, echo=True, logprobs=2).choices
    found = choice.logprobs
    assert found.tokens == TOKENS + plain.tokens
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    assert found.token_logprobs[5:] == pytest.approx(plain.token_logprobs, abs=1e-4)
    assert [set(top) for top in found.top_logprobs[5:]] == [set(t) for t in plain.top_logprobs]
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert choice.text[offset : offset + len(token)] == token
    for token, logprob, top in zip(
        found.tokens[1:], found.token_logprobs[1:], found.top_logprobs[1:], strict=True
    ):
        assert top[token] == logprob
        assert 2 <= len(top) <= 3


def test_a_prompts_judgement_is_what_its_tokens_would_have_had_as_an_answer(
    server, client: OpenAI, model: str
) -> None:
    (choice,) = completion(client, model, logprobs=0, extra_body={"return_token_ids": True}).choices
    # As token ids, since the answer's text might be tokenized in another way.
    both = ids_of(server, PROMPT) + choice.model_dump()["token_ids"]
    whole = completion(client, model, prompt=both, echo=True, max_tokens=0, logprobs=0)
    found = whole.choices[0].logprobs
    assert found.tokens == TOKENS + choice.logprobs.tokens
    assert found.token_logprobs[5:] == pytest.approx(choice.logprobs.token_logprobs, abs=1e-3)


def test_streamed_echoes_join_to_the_unstreamed_one(client: OpenAI, model: str) -> None:
    whole = completion(client, model, echo=True, logprobs=1).choices[0]
    chunks = list(completion(client, model, echo=True, logprobs=1, stream=True))
    parts = [chunk.choices[0] for chunk in chunks]
    assert "".join(part.text for part in parts) == whole.text
    assert [t for part in parts for t in part.logprobs.tokens] == whole.logprobs.tokens
    assert [o for part in parts for o in part.logprobs.text_offset] == whole.logprobs.text_offset


def test_every_choice_of_every_prompt_begins_with_its_own(client: OpenAI, model: str) -> None:
    prompts = ["One, two,", "Monday, Tuesday,"]
    answer = completion(client, model, prompt=prompts, echo=True, n=2, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        assert choice.text.startswith(prompts[choice.index // 2])


@pytest.mark.parametrize(("skips", "echoed"), [(True, "user\nHi"), (False, "<|im_start|>user\nHi")])
def test_echoed_token_ids_are_shown_as_answers_are(
    skips: bool, echoed: str, server, client: OpenAI, model: str
) -> None:
    token_ids = ids_of(server, "<|im_start|>user\nHi")
    options = {"extra_body": {"skip_special_tokens": skips}, "logprobs": 0, "max_tokens": 0}
    (choice,) = completion(client, model, prompt=token_ids, echo=True, **options).choices
    assert choice.text == echoed
    assert choice.logprobs.tokens[0] == "<|im_start|>"
    # What the text does not show takes no room in it.
    assert choice.logprobs.text_offset[:2] == [0, 0 if skips else len("<|im_start|>")]


def test_prompt_logprobs_have_the_token_and_the_likeliest_by_id(server) -> None:
    body = {"prompt": PROMPT, "prompt_logprobs": 2, **GREEDY}
    (choice,) = server.post(COMPLETIONS, json=body).json()["choices"]
    first, *judged = choice["prompt_logprobs"]
    assert first is None
    assert len(judged) == 4
    for token_id, token, entries in zip(
        ids_of(server, PROMPT)[1:], TOKENS[1:], judged, strict=True
    ):
        assert entries[str(token_id)]["decoded_token"] == token
        by_rank = [e for e in entries.values() if e["rank"] is not None]
        best = sorted(by_rank, key=lambda entry: entry["rank"])
        assert [entry["rank"] for entry in best] == [1, 2]
        assert all(a["logprob"] >= b["logprob"] for a, b in pairwise(best))
        assert len(entries) == (2 if entries[str(token_id)]["rank"] else 3)


def test_prompt_logprobs_and_echoed_logprobs_each_have_their_own_number(server) -> None:
    body = {"prompt": PROMPT, "prompt_logprobs": 0, "logprobs": 3, "echo": True, **GREEDY}
    (choice,) = server.post(COMPLETIONS, json=body).json()["choices"]
    assert [len(entries) for entries in choice["prompt_logprobs"][1:]] == [1, 1, 1, 1]
    assert all(len(top) >= 3 for top in choice["logprobs"]["top_logprobs"][1:])


def test_choices_have_no_prompt_logprobs_unless_asked_for(server) -> None:
    (choice,) = server.post(COMPLETIONS, json={"prompt": PROMPT, **GREEDY}).json()["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason", "stop_reason"}


def test_prompt_logprobs_of_a_stream_are_refused(refuse) -> None:
    body = {"prompt": PROMPT, "prompt_logprobs": 1, "stream": True}
    words = "`prompt_logprobs` are not available when `stream=True`."
    refuse(COMPLETIONS, body, words, param="prompt_logprobs")


def test_0_tokens_without_an_echo_are_refused(refuse) -> None:
    words = "max_tokens must be at least 1, got 0."
    refuse(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 0}, words, "echo", param="max_tokens")
