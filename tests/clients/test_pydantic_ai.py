"""pydantic-ai: runs in which the model must call a tool, hears its result, and gives an output."""

import asyncio
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, RunContext, ToolDefinition
from pydantic_ai.capabilities import PrepareOutputTools, PrepareTools
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

pytestmark = pytest.mark.slow
QUESTION = "How is the weather in Paris, France?"
SETTINGS = ModelSettings(temperature=0, max_tokens=150, parallel_tool_calls=False)
BRIEF = ModelSettings(temperature=0, max_tokens=16)


class Report(BaseModel):
    """The weather as it was looked up."""

    city: Literal["Paris", "London"]
    degrees: Annotated[int, Field(ge=-50, le=60)]


@pytest.fixture
def model(endpoint: Any) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=endpoint.base_url, api_key=endpoint.api_key)
    return OpenAIChatModel(endpoint.model, provider=provider)


def test_a_run_ends_with_text_and_its_usage(model: OpenAIChatModel) -> None:
    result = Agent(model, instructions="You are brief.").run_sync(QUESTION, model_settings=BRIEF)
    assert isinstance(result.output, str) and result.output
    assert result.usage.input_tokens > 10 and result.usage.output_tokens == 16


def test_a_streamed_run_says_the_same(model: OpenAIChatModel) -> None:
    agent = Agent(model)

    async def stream() -> str:
        async with agent.run_stream(QUESTION, model_settings=BRIEF) as result:
            return "".join([text async for text in result.stream_text(delta=True)])

    assert asyncio.run(stream()) == agent.run_sync(QUESTION, model_settings=BRIEF).output


@pytest.mark.parametrize("output", [Report, NativeOutput(Report)], ids=["call", "schema"])
def test_an_output_is_an_object_of_its_class(output: Any, model: OpenAIChatModel) -> None:
    result = Agent(model, output_type=output).run_sync(QUESTION, model_settings=SETTINGS)
    assert isinstance(result.output, Report)


def test_a_tool_is_called_and_its_result_leads_to_the_output(model: OpenAIChatModel) -> None:
    asked: list[str] = []

    # The first answer has only the tool to call, the second only the output.
    async def only_first(
        context: RunContext[None], tools: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        return tools if context.run_step == 1 else []

    async def only_later(
        context: RunContext[None], tools: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        return tools if context.run_step > 1 else []

    agent = Agent(
        model,
        output_type=Report,
        capabilities=[PrepareTools(only_first), PrepareOutputTools(only_later)],
    )

    @agent.tool_plain
    def get_weather(city: Literal["Paris", "London"]) -> str:
        """Look the weather up."""
        asked.append(city)
        return f"{city}: sunny, 23 degrees"

    result = agent.run_sync(QUESTION, model_settings=SETTINGS)
    assert len(asked) == 1 and asked[0] in ("Paris", "London")
    assert isinstance(result.output, Report)
    first, called, returned, ended = result.all_messages()[:4]
    assert isinstance(first, ModelRequest) and isinstance(called, ModelResponse)
    assert [p.tool_name for p in called.parts if isinstance(p, ToolCallPart)] == ["get_weather"]
    (part,) = (part for part in returned.parts if isinstance(part, ToolReturnPart))
    assert part.content == f"{asked[0]}: sunny, 23 degrees"
    assert isinstance(ended, ModelResponse)
    assert result.usage.requests == 2 and result.usage.tool_calls == 1


def test_a_refusal_carries_status_and_body(model: OpenAIChatModel) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        Agent(model).run_sync(QUESTION, model_settings=ModelSettings(temperature=3))
    assert caught.value.status_code == 400
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["param"] == "temperature"
