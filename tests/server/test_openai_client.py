"""Completions and chat through the official client: whole, streamed, and the two alike."""

import asyncio
import json

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from ..conftest import in_more_pieces_than

PROMPT = "The three primary colours are"
MESSAGES = [{"role": "user", "content": "Name three rivers."}]
GREEDY = {"max_tokens": 6, "temperature": 0, "extra_body": {"ignore_eos": True}}
EOS = 2  # <|im_end|> of SmolLM2


def completion(client: OpenAI, model: str, **options):
    return client.completions.create(model=model, prompt=PROMPT, **{**GREEDY, **options})


def chat(client: OpenAI, model: str, **options):
    settings = {"messages": MESSAGES, **GREEDY, **options}
    return client.chat.completions.create(model=model, **settings)


def test_a_completion_has_openais_shape(client: OpenAI, model: str) -> None:
    whole = completion(client, model)
    assert whole.id.startswith("cmpl-")
    assert (whole.object, whole.model) == ("text_completion", model)
    (choice,) = whole.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 6


def test_a_chat_completion_has_openais_shape(client: OpenAI, model: str) -> None:
    whole = chat(client, model)
    assert whole.id.startswith("chatcmpl-")
    assert (whole.object, whole.model) == ("chat.completion", model)
    (choice,) = whole.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6


def test_streamed_completion_chunks_join_to_the_unstreamed_text(client: OpenAI, model: str) -> None:
    whole = completion(client, model)

    def num_chunks() -> int:
        chunks = list(completion(client, model, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
        assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
            (chunks[0].id, chunks[0].created, model)
        }
        assert {chunk.object for chunk in chunks} == {"text_completion"}
        return len(chunks)

    in_more_pieces_than(1, num_chunks)


def test_streamed_chat_deltas_join_to_the_unstreamed_content(client: OpenAI, model: str) -> None:
    whole = chat(client, model)
    chunks = list(chat(client, model, stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content


def test_a_chat_stream_begins_with_the_role_and_says_it_once(client: OpenAI, model: str) -> None:
    first, *rest = (chunk.choices[0] for chunk in chat(client, model, stream=True))
    assert (first.delta.role, first.delta.content, first.finish_reason) == ("assistant", "", None)
    assert {choice.delta.role for choice in rest} == {None}
    assert all(choice.delta.content for choice in rest)


@pytest.mark.parametrize("ask", [completion, chat])
def test_finish_reason_comes_once_on_the_last_chunk_with_its_text(
    ask, client: OpenAI, model: str
) -> None:
    *before, last = (chunk.choices[0] for chunk in ask(client, model, stream=True))
    assert {choice.finish_reason for choice in before} == {None}
    assert last.finish_reason == "length"
    assert last.text if ask is completion else last.delta.content


@pytest.mark.parametrize("ask", [completion, chat])
def test_include_usage_adds_one_last_chunk_with_the_usage_and_no_choice(
    ask, client: OpenAI, model: str
) -> None:
    whole = ask(client, model)
    *before, last = ask(client, model, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.choices for chunk in before)
    assert all("usage" not in chunk.model_fields_set for chunk in before)


@pytest.mark.parametrize("ask", [completion, chat])
def test_without_include_usage_no_chunk_has_a_usage(ask, client: OpenAI, model: str) -> None:
    chunks = list(ask(client, model, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


@pytest.mark.parametrize("ask", [completion, chat])
def test_continuous_usage_counts_up_from_chunk_to_chunk(ask, client: OpenAI, model: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}

    def num_counts() -> int:
        chunks = list(ask(client, model, stream=True, stream_options=options))
        counts = [chunk.usage.completion_tokens for chunk in chunks]
        assert counts == sorted(counts)
        assert counts[-2:] == [6, 6]
        return len(set(counts))

    in_more_pieces_than(2, num_counts)


def test_an_end_of_sequence_token_stops_with_reason_stop(client: OpenAI, model: str) -> None:
    at_once = {"max_tokens": 6, "logit_bias": {str(EOS): 100}, "extra_body": {}}
    (choice,) = chat(client, model, **at_once).choices
    assert (choice.finish_reason, choice.message.content) == ("stop", "")
    assert choice.stop_reason is None
    assert completion(client, model, **at_once).usage.completion_tokens == 1
    streamed = [chunk.choices[0] for chunk in chat(client, model, **at_once, stream=True)]
    assert [choice.finish_reason for choice in streamed] == [None, "stop"]


def test_max_completion_tokens_wins_over_max_tokens(client: OpenAI, model: str) -> None:
    whole = chat(client, model, max_tokens=6, max_completion_tokens=2)
    assert whole.usage.completion_tokens == 2


def test_a_message_in_parts_reads_like_one_in_a_string(client: OpenAI, model: str) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": MESSAGES[0]["content"]}]}]
    assert (
        chat(client, model, messages=parts).choices[0].message.content
        == chat(client, model).choices[0].message.content
    )


def test_a_prompt_asked_again_reports_its_full_blocks_as_cached(client: OpenAI, model: str) -> None:
    prompt = "Seven kinds of cheese, with the country each of them comes from: " * 4
    private = {**GREEDY, "max_tokens": 1, "extra_body": {"cache_salt": "asked again"}}

    def usage(**options):
        return client.completions.create(model=model, prompt=prompt, **{**private, **options}).usage

    first, second = usage(), usage()
    assert first.prompt_tokens_details.cached_tokens == 0
    # Blocks of 16 tokens are reused, but at least one token is computed to have its logits.
    assert second.prompt_tokens_details.cached_tokens == (first.prompt_tokens - 1) // 16 * 16 > 0
    elsewhere = usage(extra_body={"cache_salt": "somebody else"})
    assert elsewhere.prompt_tokens_details.cached_tokens == 0


def test_async_streams_at_once_say_what_each_says_alone(server, client: OpenAI, model: str) -> None:
    async def stream_both() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=server.url + "/v1", api_key="unused") as other:

            async def completed() -> str:
                stream = await completion(other, model, stream=True)
                return "".join([chunk.choices[0].text async for chunk in stream])

            async def chatted() -> str:
                stream = await chat(other, model, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(completed(), chatted())

    assert asyncio.run(stream_both()) == [
        completion(client, model).choices[0].text,
        chat(client, model).choices[0].message.content,
    ]


@pytest.mark.parametrize(
    ("path", "question"),
    [("/v1/completions", {"prompt": PROMPT}), ("/v1/chat/completions", {"messages": MESSAGES})],
)
def test_on_the_wire_a_stream_is_data_events_that_always_name_the_finish_reason(
    path: str, question: dict, server
) -> None:
    body = {**question, "max_tokens": 3, "temperature": 0, "stream": True}
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.endswith("\n\n")
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    for sent in events:
        assert sent.startswith("data: {")
        (choice,) = json.loads(sent.removeprefix("data: "))["choices"]
        assert {"finish_reason", "logprobs"} <= set(choice)
