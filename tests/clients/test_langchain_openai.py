"""langchain-openai: messages, streams, structured output by both methods, calls and results."""

import asyncio
from typing import Annotated, Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

from ..conftest import in_more_pieces_than

pytestmark = pytest.mark.slow
MESSAGES = [
    SystemMessage("You are brief."),
    HumanMessage("How is the weather in Paris, France?"),
]


class City(BaseModel):
    """A city."""

    name: Annotated[str, Field(max_length=20, description="its name")]
    continent: Literal["Europe", "Asia", "Africa"]


@tool
def get_weather(city: Literal["Paris", "London"]) -> str:
    """Look the weather up."""
    return f"{city}: sunny, 23 degrees"


@pytest.fixture(scope="module")
def chat(endpoint: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=endpoint.model,
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        temperature=0,
        max_tokens=120,
        max_retries=0,
        stream_usage=True,
    )


def test_invoke_answers_with_usage(chat: ChatOpenAI, endpoint: Any) -> None:
    answer = chat.invoke(MESSAGES, max_tokens=8)
    assert answer.text
    assert answer.response_metadata["model_name"] == endpoint.model
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.usage_metadata is not None
    assert 0 < answer.usage_metadata["output_tokens"] <= 8


def test_stream_adds_up_to_what_invoke_says(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream(MESSAGES, max_tokens=12))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert isinstance(whole, AIMessageChunk)
    said = chat.invoke(MESSAGES, max_tokens=12)
    assert whole.text == said.text
    assert whole.response_metadata["finish_reason"] == said.response_metadata["finish_reason"]
    assert whole.usage_metadata and said.usage_metadata
    assert whole.usage_metadata["output_tokens"] == said.usage_metadata["output_tokens"]


def test_a_chain_runs_a_batch_side_by_side(chat: ChatOpenAI) -> None:
    chain = ChatPromptTemplate.from_messages([("user", "Say {word}.")]) | chat.bind(max_tokens=4)
    answers = asyncio.run(chain.abatch([{"word": "red"}, {"word": "blue"}, {"word": "green"}]))
    assert [bool(answer.text) for answer in answers] == [True, True, True]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_class(method: Any, chat: ChatOpenAI) -> None:
    reader = chat.with_structured_output(City, method=method, include_raw=True)
    answer = reader.invoke(MESSAGES)
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], City)
    assert bool(answer["raw"].tool_calls) == (method == "function_calling")


def test_structured_output_streams_a_growing_object(chat: ChatOpenAI) -> None:
    schema = City.model_json_schema()
    reader = chat.with_structured_output(schema, method="json_schema")

    def num_parts() -> int:
        parts = list(reader.stream(MESSAGES))
        assert City.model_validate(parts[-1])
        return len(parts)

    in_more_pieces_than(1, num_parts)


@pytest.mark.parametrize("choice", ["any", "get_weather"])
def test_a_forced_call_is_run_and_its_result_answered(choice: str, chat: ChatOpenAI) -> None:
    asked = chat.bind_tools([get_weather], tool_choice=choice).invoke(
        MESSAGES, parallel_tool_calls=False
    )
    (call,) = asked.tool_calls
    assert call["name"] == "get_weather" and not asked.invalid_tool_calls
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and "23" in result.content
    answered = chat.bind_tools([get_weather]).invoke([*MESSAGES, asked, result], max_tokens=40)
    assert "23" in answered.text


def test_a_streamed_call_comes_in_pieces(chat: ChatOpenAI) -> None:
    caller = chat.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)

    def num_pieces() -> int:
        chunks = list(caller.stream(MESSAGES))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        (call,) = whole.tool_calls
        assert call["name"] == "get_weather"
        assert call["args"]["city"] in ("Paris", "London")
        return sum(bool(chunk.tool_call_chunks) for chunk in chunks)

    in_more_pieces_than(2, num_pieces)


def test_completions_of_several_prompts_in_one_request(endpoint: Any) -> None:
    writer = OpenAI(
        model=endpoint.model,
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        temperature=0,
        max_tokens=6,
    )
    answers = writer.generate(["One, two, three,", "Red, green,"])
    assert [len(choices) for choices in answers.generations] == [1, 1]
    assert all(choice.text for (choice,) in answers.generations)
    assert answers.llm_output is not None
    assert answers.llm_output["token_usage"]["completion_tokens"] == 12
    assert "".join(writer.stream("One, two, three,")) == answers.generations[0][0].text


def test_a_refusal_says_which_parameter(chat: ChatOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat.invoke(MESSAGES, top_p=7)
    assert caught.value.param == "top_p"
