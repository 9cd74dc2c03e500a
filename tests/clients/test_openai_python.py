"""OpenAI's own Python client: whole and streamed answers, errors, headers, timeouts."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

pytestmark = pytest.mark.slow
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
FIXED: dict[str, Any] = {"temperature": 0, "extra_body": {"ignore_eos": True}}
# Far more than the deadline of the check for idleness lets a forgotten request compute.
ENDLESS: dict[str, Any] = {"max_tokens": 8000, "extra_body": {"ignore_eos": True}}


@pytest.fixture
def chat(client: OpenAI, endpoint: Any) -> Any:
    def ask(**options: Any) -> Any:
        settings = {"model": endpoint.model, "messages": QUESTION, "max_tokens": 8, **options}
        return client.chat.completions.create(**settings)

    return ask


def test_models_are_listed_and_found_by_their_name(client: OpenAI, endpoint: Any) -> None:
    (listed,) = client.models.list().data
    found = client.models.retrieve(endpoint.model)
    assert (listed.id, listed.object) == (found.id, found.object) == (endpoint.model, "model")
    assert found.model_extra and found.model_extra["max_model_len"] == 8192


def test_a_chat_counts_its_tokens(chat: Any) -> None:
    answer = chat(**FIXED)
    (choice,) = answer.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content and not choice.message.tool_calls
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_a_streamed_chat_adds_up_to_the_whole_one(chat: Any) -> None:
    whole = chat(**FIXED)
    with chat(**FIXED, stream=True, stream_options={"include_usage": True}) as stream:
        *chunks, last = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == (
        whole.choices[0].message.content
    )
    assert [c.choices[0].finish_reason for c in chunks][-1] == "length"
    assert last.usage.completion_tokens == whole.usage.completion_tokens


def test_completions_whole_streamed_and_for_several_prompts(client: OpenAI, endpoint: Any) -> None:
    settings: dict[str, Any] = {"model": endpoint.model, "max_tokens": 6, **FIXED}
    whole = client.completions.create(prompt="One, two, three,", **settings)
    stream = client.completions.create(prompt="One, two, three,", stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text != ""
    several = client.completions.create(prompt=["One, two, three,", "Red, green"], **settings)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.choices[0].text == whole.choices[0].text != several.choices[1].text


def test_choices_are_numbered_and_differ(chat: Any) -> None:
    answer = chat(n=3, seed=7, temperature=1.5, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    streamed: dict[int, str] = {0: "", 1: "", 2: ""}
    for chunk in chat(n=3, seed=7, temperature=1.5, max_tokens=12, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == [choice.message.content for choice in answer.choices]


def test_logprobs_name_the_drawn_token_and_its_rivals(chat: Any) -> None:
    (choice,) = chat(**FIXED, max_tokens=3, logprobs=True, top_logprobs=2).choices
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries) == choice.message.content
    for entry in entries:
        assert len(entry.top_logprobs) == 2
        # Greedy: the drawn token is the likeliest.
        assert entry.logprob == entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert bytes(entry.bytes).decode() == entry.token


def test_asynchronous_chats_run_side_by_side(endpoint: Any, chat: Any) -> None:
    async def ask_all() -> list[str]:
        options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key}
        async with AsyncOpenAI(**options) as client:

            async def ask(content: str) -> str:
                stream = await client.chat.completions.create(
                    model=endpoint.model,
                    messages=[{"role": "user", "content": content}],
                    max_tokens=8,
                    stream=True,
                    **FIXED,
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return await asyncio.gather(*map(ask, ("Say red.", "Say green.", "Say blue.")))

    answers = asyncio.run(ask_all())
    assert len(answers) == 3 and all(answers)


@pytest.mark.parametrize(
    ("options", "kind", "status", "param", "words"),
    [
        ({"temperature": 3}, openai.BadRequestError, 400, "temperature", "[0, 2]"),
        ({"messages": []}, openai.BadRequestError, 400, "messages", "at least 1"),
        ({"max_tokens": 9000}, openai.BadRequestError, 400, "max_tokens", "8192"),
        ({"model": "gpt-17"}, openai.NotFoundError, 404, "model", "gpt-17"),
    ],
)
def test_refusals_become_the_clients_exceptions(
    options: dict[str, Any],
    kind: type[openai.APIStatusError],
    status: int,
    param: str,
    words: str,
    chat: Any,
) -> None:
    with pytest.raises(kind) as caught:
        chat(**options)
    error = caught.value
    assert (error.status_code, error.param) == (status, param)
    assert words in error.message
    assert error.request_id == error.response.headers["x-request-id"]


def test_a_refused_stream_raises_before_its_first_chunk(chat: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="top_p"):
        chat(stream=True, top_p=0)


def test_a_model_that_is_not_served_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-17"):
        client.models.retrieve("gpt-17")


def test_a_wrong_key_is_an_authentication_error(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="sk-wrong").models.list()
    assert caught.value.code == "invalid_api_key"


def test_raw_responses_carry_the_request_id(client: OpenAI, endpoint: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=endpoint.model,
        messages=QUESTION,
        max_tokens=1,
        extra_headers={"X-Request-Id": "trace-4711"},
    )
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-request-id"] == raw.request_id == "trace-4711"
    assert raw.parse().id == "chatcmpl-trace-4711"


def test_closing_a_stream_ends_its_request(chat: Any, client_server: Any) -> None:
    stream = chat(**ENDLESS, stream=True)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    assert client_server.busy()
    stream.close()
    client_server.wait_idle()


def test_a_timeout_ends_the_request(chat: Any, client_server: Any) -> None:
    with pytest.raises(openai.APITimeoutError):
        chat(**ENDLESS, timeout=1.0)
    client_server.wait_idle()


def test_cancelling_a_task_ends_its_request(endpoint: Any, client_server: Any) -> None:
    async def cancel() -> None:
        options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key}
        async with AsyncOpenAI(**options) as client:
            stream = await client.chat.completions.create(
                model=endpoint.model, messages=QUESTION, stream=True, **ENDLESS
            )
            began = asyncio.Event()

            async def read() -> None:
                async for chunk in stream:
                    if chunk.choices[0].delta.content:
                        began.set()

            task = asyncio.create_task(read())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stream.close()

    asyncio.run(cancel())
    client_server.wait_idle()
