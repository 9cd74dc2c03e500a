"""litellm: what its users' proxies send, and how it reads usage, calls and refusals."""

import asyncio
import json
import os
from typing import Annotated, Any, Literal

# Read at import: otherwise litellm fetches its list of prices from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest
from pydantic import BaseModel, Field

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Item.*ReadOnly")]
MESSAGES = [{"role": "user", "content": "How is the weather in Paris, France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look the weather up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "London"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class City(BaseModel):
    name: Annotated[str, Field(max_length=20)]
    continent: Literal["Europe", "Asia", "Africa"]


@pytest.fixture
def settings(endpoint: Any) -> dict[str, Any]:
    return {
        "model": f"openai/{endpoint.model}",
        "api_base": endpoint.base_url,
        "api_key": endpoint.api_key,
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 100,
        "num_retries": 0,
    }


def test_a_completion_counts_its_tokens(settings: dict[str, Any]) -> None:
    answer = litellm.completion(**{**settings, "max_tokens": 8})
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < answer.usage.completion_tokens <= 8
    again = litellm.completion(**{**settings, "max_tokens": 8})
    assert again.usage.prompt_tokens == answer.usage.prompt_tokens
    # Blocks of 16 tokens are found again, but for the last token, which is computed.
    found = (answer.usage.prompt_tokens - 1) // 16 * 16
    assert again.usage.prompt_tokens_details.cached_tokens == found > 0


def test_a_stream_is_rebuilt_to_the_whole_answer(settings: dict[str, Any]) -> None:
    short = {**settings, "max_tokens": 12}
    whole = litellm.completion(**short)
    options = {"include_usage": True}
    chunks = list(litellm.completion(**short, stream=True, stream_options=options))
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert built.usage.completion_tokens == whole.usage.completion_tokens


def test_asynchronous_completions_and_streams(settings: dict[str, Any]) -> None:
    short = {**settings, "max_tokens": 8}

    async def ask() -> tuple[str, str]:
        async def stream() -> str:
            chunks = await litellm.acompletion(**short, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        streamed, whole = await asyncio.gather(stream(), litellm.acompletion(**short))
        return streamed, whole.choices[0].message.content

    streamed, whole = asyncio.run(ask())
    assert streamed and whole


def test_text_completions(settings: dict[str, Any], endpoint: Any) -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{endpoint.model}",
        prompt="One, two, three,",
        max_tokens=6,
        **{name: settings[name] for name in ("api_base", "api_key", "temperature")},
    )
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 6


def test_a_response_format_of_a_class_is_kept(settings: dict[str, Any]) -> None:
    answer = litellm.completion(**settings, response_format=City)
    assert City.model_validate_json(answer.choices[0].message.content)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_is_run_and_its_result_answered(choice: Any, settings: dict[str, Any]) -> None:
    forced = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False}
    message = litellm.completion(**settings, **forced).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    city = json.loads(call.function.arguments)["city"]
    result = {
        "role": "tool",
        "tool_call_id": call.id,
        "name": "get_weather",
        "content": f"{city}: sunny, 23 degrees",
    }
    told = {**settings, "messages": [*MESSAGES, message, result], "max_tokens": 40}
    answered = litellm.completion(**told, tools=[TOOL])
    assert "23" in answered.choices[0].message.content


def test_a_streamed_call_is_rebuilt(settings: dict[str, Any]) -> None:
    forced = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    chunks = list(litellm.completion(**settings, **forced, stream=True))
    built = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    (call,) = built.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "London")
    assert built.choices[0].finish_reason == "tool_calls"


def test_refusals_become_litellms_exceptions(settings: dict[str, Any]) -> None:
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(**{**settings, "temperature": 3})
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**{**settings, "model": "openai/gpt-17"})
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**{**settings, "api_key": "sk-wrong"})


def test_a_prompt_that_is_too_long_is_known_as_such(settings: dict[str, Any]) -> None:
    long = [{"role": "user", "content": "seven " * 9000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**settings, "messages": long})
