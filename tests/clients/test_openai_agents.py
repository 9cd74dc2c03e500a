"""OpenAI's Agents SDK over chat completions: a loop with a tool, an output with a form."""

import asyncio
from typing import Annotated, Any, Literal

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    function_tool,
)
from agents.items import ToolCallItem, ToolCallOutputItem
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

pytestmark = pytest.mark.slow
QUESTION = "How is the weather in Paris, France?"
NO_TRACES = RunConfig(tracing_disabled=True)


class Report(BaseModel):
    city: Literal["Paris", "London"]
    degrees: Annotated[int, Field(ge=-50, le=60)]


@function_tool
def get_weather(city: Literal["Paris", "London"]) -> str:
    """Look the weather up."""
    return f"{city}: sunny, 23 degrees"


@pytest.fixture
def model(endpoint: Any) -> OpenAIChatCompletionsModel:
    client = AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0)
    return OpenAIChatCompletionsModel(endpoint.model, client)


def make_agent(model: OpenAIChatCompletionsModel, **options: Any) -> Agent[Any]:
    settings = ModelSettings(
        temperature=0, max_tokens=100, parallel_tool_calls=False, tool_choice="required"
    )
    given = {"tools": [get_weather], "model_settings": settings, **options}
    return Agent(name="Reporter", instructions="You are brief.", model=model, **given)


def test_a_run_calls_the_tool_and_answers_with_its_result(
    model: OpenAIChatCompletionsModel,
) -> None:
    result = Runner.run_sync(make_agent(model), QUESTION, run_config=NO_TRACES)
    assert [type(item) for item in result.new_items[:2]] == [ToolCallItem, ToolCallOutputItem]
    assert "sunny" in result.new_items[1].output
    assert "23" in result.final_output
    assert result.context_wrapper.usage.requests == 2


def test_a_streamed_run_does_the_same(model: OpenAIChatCompletionsModel) -> None:
    async def run() -> tuple[str, str]:
        result = Runner.run_streamed(make_agent(model), QUESTION, run_config=NO_TRACES)
        texts = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event"
            and event.data.type == "response.output_text.delta"
        ]
        return "".join(texts), result.final_output

    streamed, final = asyncio.run(run())
    assert streamed == final and "23" in final


def test_an_output_has_its_form(model: OpenAIChatCompletionsModel) -> None:
    settings = ModelSettings(temperature=0, max_tokens=100)
    agent = make_agent(model, tools=[], output_type=Report, model_settings=settings)
    result = Runner.run_sync(agent, QUESTION, run_config=NO_TRACES)
    assert isinstance(result.final_output, Report)
