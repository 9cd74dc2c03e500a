"""Stop strings and stop tokens through the official client."""

import pytest
from openai import OpenAI

PROMPT = "Once upon a time, in a small village by the sea,"
GREEDY = {"max_tokens": 12, "temperature": 0}


def completion(client: OpenAI, model: str, **options):
    settings = {"prompt": PROMPT, **GREEDY, **options}
    return client.completions.create(model=model, **settings)


@pytest.fixture(scope="module")
def text(session_client: OpenAI, model: str) -> str:
    """What follows the prompt if nothing stops it."""
    (choice,) = completion(session_client, model).choices
    assert choice.finish_reason == "length"
    return choice.text


def test_text_ends_before_a_stop_string_that_spans_tokens(
    text: str, client: OpenAI, model: str
) -> None:
    stop = text[9:20]
    answer = completion(client, model, stop=stop)
    (choice,) = answer.choices
    assert choice.text == text[: text.index(stop)]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", stop)
    assert answer.usage is not None
    assert answer.usage.completion_tokens < GREEDY["max_tokens"]


def test_of_a_list_the_stop_string_that_is_complete_earliest_wins(
    text: str, client: OpenAI, model: str
) -> None:
    late, early = text[20:25], text[8:12]
    (choice,) = completion(client, model, stop=[late, "not in the text", early]).choices
    assert choice.text == text[: text.index(early)]
    assert choice.stop_reason == early


def test_a_stop_string_that_never_comes_changes_nothing(
    text: str, client: OpenAI, model: str
) -> None:
    almost = text[-6:] + "\x00"
    (choice,) = completion(client, model, stop=[almost]).choices
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert choice.stop_reason is None


def test_the_stop_string_is_kept_if_that_is_asked_for(
    text: str, client: OpenAI, model: str
) -> None:
    stop = text[8:12]
    keeping = {"include_stop_str_in_output": True}
    (choice,) = completion(client, model, stop=stop, extra_body=keeping).choices
    assert choice.text == text[: text.index(stop) + len(stop)]
    assert choice.stop_reason == stop


def test_a_stream_never_shows_the_beginning_of_a_stop_string(
    text: str, client: OpenAI, model: str
) -> None:
    stop = text[9:20]
    chunks = [chunk.choices[0] for chunk in completion(client, model, stop=stop, stream=True)]
    assert "".join(choice.text for choice in chunks) == text[: text.index(stop)]
    assert [choice.finish_reason for choice in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1].stop_reason == stop


def test_a_chat_stream_names_the_stop_string_on_its_last_chunk(client: OpenAI, model: str) -> None:
    ask = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **GREEDY}
    text = client.chat.completions.create(**ask).choices[0].message.content
    stop = text[6:10]
    chunks = [c.choices[0] for c in client.chat.completions.create(**ask, stop=stop, stream=True)]
    assert "".join(choice.delta.content or "" for choice in chunks) == text[: text.index(stop)]
    assert (chunks[-1].finish_reason, chunks[-1].stop_reason) == ("stop", stop)


def test_a_stop_token_ends_the_text_before_it_and_is_named(
    server, text: str, client: OpenAI, model: str
) -> None:
    tokens = server.post("/tokenize", json={"prompt": text}).json()["tokens"]
    place = next(i for i, token in enumerate(tokens) if i >= 3 and token not in tokens[:i])
    answer = completion(client, model, extra_body={"stop_token_ids": [tokens[place]]})
    (choice,) = answer.choices
    before = server.post("/detokenize", json={"tokens": tokens[:place]}).json()["prompt"]
    assert choice.text == before
    assert (choice.finish_reason, choice.stop_reason) == ("stop", tokens[place])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == place + 1
