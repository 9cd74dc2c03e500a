"""OpenAI's Python client where answers have a form: its parser, its stream's events, calls."""

import asyncio
from typing import Annotated, Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field
from pydantic_core import from_json

from ..conftest import in_more_pieces_than

pytestmark = pytest.mark.slow
QUESTION: list[Any] = [{"role": "user", "content": "How is the weather in Paris, France?"}]


class City(BaseModel):
    name: Annotated[str, Field(max_length=20)]
    continent: Literal["Europe", "Asia", "Africa"]
    sights: Annotated[list[Literal["tower", "river", "bridge"]], Field(max_length=2)]


class GetWeather(BaseModel):
    """Look the weather up."""

    city: Literal["Paris", "London"]
    unit: Literal["celsius", "fahrenheit"]


@pytest.fixture
def settings(endpoint: Any) -> dict[str, Any]:
    return {"model": endpoint.model, "messages": QUESTION, "temperature": 0, "max_tokens": 120}


def test_parse_gives_an_object_of_the_model_class(client: OpenAI, settings: dict[str, Any]) -> None:
    answer = client.chat.completions.parse(**settings, response_format=City)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, City)
    assert choice.message.parsed == City.model_validate_json(choice.message.content or "")


def test_parse_holds_every_sampled_choice_to_the_form(
    client: OpenAI, settings: dict[str, Any]
) -> None:
    hot = {**settings, "temperature": 2, "n": 3, "seed": 1}
    answer = client.chat.completions.parse(**hot, response_format=City)
    parsed = [choice.message.parsed for choice in answer.choices]
    assert len(parsed) == 3 and all(isinstance(one, City) for one in parsed)


def test_parse_complains_of_an_answer_that_was_cut(
    client: OpenAI, settings: dict[str, Any]
) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**{**settings, "max_tokens": 4}, response_format=City)


def test_parse_reads_the_arguments_of_a_call(client: OpenAI, settings: dict[str, Any]) -> None:
    answer = client.chat.completions.parse(
        **settings,
        tools=[pydantic_function_tool(GetWeather)],
        tool_choice={"type": "function", "function": {"name": "GetWeather"}},
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, GetWeather)


def test_json_mode_writes_an_object(client: OpenAI, settings: dict[str, Any]) -> None:
    brief = {**settings, "max_tokens": 30}
    answer = client.chat.completions.create(**brief, response_format={"type": "json_object"})
    text = answer.choices[0].message.content or ""
    # This model may not come to the end of its object within the limit.
    assert isinstance(from_json(text, allow_partial=True), dict)


def test_events_of_a_stream_tell_text_and_its_end(client: OpenAI, settings: dict[str, Any]) -> None:
    form = {"structured_outputs": {"regex": "(red|green|blue)( (red|green|blue)){7}"}}

    def num_texts() -> int:
        with client.chat.completions.stream(**settings, logprobs=True, extra_body=form) as stream:
            events = list(stream)
            final = stream.get_final_completion()
        texts = [event.delta for event in events if event.type == "content.delta"]
        (done,) = (event for event in events if event.type == "content.done")
        assert "".join(texts) == done.content == final.choices[0].message.content
        assert len(done.content.split(" ")) == 8
        assert final.choices[0].finish_reason == "stop"
        (last,) = (event for event in events if event.type == "logprobs.content.done")
        assert "".join(entry.token for entry in last.content).startswith(done.content)
        return len([text for text in texts if text])

    in_more_pieces_than(2, num_texts)


def test_events_of_a_formed_stream_carry_what_is_parsed_so_far(
    client: OpenAI, settings: dict[str, Any]
) -> None:
    with client.chat.completions.stream(**settings, response_format=City) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    parts = [event.parsed for event in events if event.type == "content.delta"]
    (done,) = (event for event in events if event.type == "content.done")
    assert isinstance(done.parsed, City)
    assert final.choices[0].message.parsed == done.parsed
    assert [part for part in parts if part] != [] and parts[-1] == done.parsed.model_dump()


def test_events_of_a_streamed_call_add_up_to_it(client: OpenAI, settings: dict[str, Any]) -> None:
    forced = {
        "tools": [pydantic_function_tool(GetWeather)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }

    def num_deltas() -> int:
        with client.chat.completions.stream(**settings, **forced) as stream:
            events = list(stream)
            final = stream.get_final_completion()
        deltas = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
        (done,) = (e for e in events if e.type == "tool_calls.function.arguments.done")
        (call,) = final.choices[0].message.tool_calls or ()
        joined = "".join(e.arguments_delta for e in deltas)
        assert joined == done.arguments == call.function.arguments
        assert isinstance(call.function.parsed_arguments, GetWeather)
        assert final.choices[0].finish_reason == "tool_calls"
        return len(deltas)

    in_more_pieces_than(2, num_deltas)


def test_a_result_goes_back_and_is_answered(client: OpenAI, settings: dict[str, Any]) -> None:
    tools: Any = [pydantic_function_tool(GetWeather)]
    asked = client.chat.completions.create(
        **settings, tools=tools, tool_choice="required", parallel_tool_calls=False
    )
    message = asked.choices[0].message
    assert message.tool_calls
    result = {
        "role": "tool",
        "tool_call_id": message.tool_calls[0].id,
        "content": "sunny, 23 degrees",
    }
    told = {**settings, "messages": [*QUESTION, message, result], "max_tokens": 40}
    answered = client.chat.completions.create(**told, tools=tools)
    assert "23" in (answered.choices[0].message.content or "")


def test_the_asynchronous_parser_under_its_older_name(
    endpoint: Any, settings: dict[str, Any]
) -> None:
    async def parse() -> Any:
        options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key}
        async with AsyncOpenAI(**options) as client:
            return await client.beta.chat.completions.parse(**settings, response_format=City)

    assert isinstance(asyncio.run(parse()).choices[0].message.parsed, City)


def test_a_schema_that_cannot_be_is_a_bad_request(client: OpenAI, settings: dict[str, Any]) -> None:
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "broken", "schema": {"type": "colour"}},
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**settings, response_format=form)
    assert caught.value.param == "response_format"
