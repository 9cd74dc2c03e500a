"""Errors as the official client raises them."""

import re

import openai
import pytest
from openai import OpenAI

MESSAGES = [{"role": "user", "content": "Hello"}]


def test_an_unknown_model_is_not_found(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="nobody/nothing", prompt="Hi", max_tokens=1)
    assert caught.value.status_code == 404
    assert caught.value.param == "model"
    assert "The model `nobody/nothing` does not exist." in caught.value.message
    assert model in caught.value.message


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"extra_body": {"top_k": "many"}}, "top_k"),
    ],
)
def test_a_bad_parameter_is_a_bad_request_that_names_it(
    options: dict, param: str, client: OpenAI, model: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1, **options)
    assert caught.value.param == param
    assert caught.value.status_code == 400
    assert caught.value.type == "BadRequestError"


@pytest.mark.parametrize("stream", [False, True])
def test_an_overflow_of_the_context_says_so_in_openais_words(
    stream: bool, client: OpenAI, model: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt=[7] * 8000, max_tokens=500, stream=stream)
    words = (
        r"This model's maximum context length is 8192 tokens\. However, you requested 500 output "
        r"tokens and your prompt contains 8000 input tokens, for a total of 8500 tokens\. Please "
        r"reduce the length of the input prompt or the number of requested output tokens\."
    )
    assert re.search(words, caught.value.message)


def test_a_refused_stream_is_an_error_before_it_begins_not_an_event(
    client: OpenAI, model: str
) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=MESSAGES, temperature=-1, stream=True)


def test_a_path_that_does_not_exist_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="any", input="text")
