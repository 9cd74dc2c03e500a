"""instructor: objects drawn out of text, by calls and by schemas, whole and growing."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import instructor
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from ..conftest import in_more_pieces_than

pytestmark = pytest.mark.slow
MODES = [instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA]
TEXT = "Anna Schmidt, 34, lives in Paris and works as a baker."


class Person(BaseModel):
    """A person."""

    name: Annotated[str, Field(max_length=24)]
    age: Annotated[int, Field(ge=0, le=130)]
    trade: Literal["baker", "farmer", "teacher"]


@pytest.fixture(scope="module")
def openai_client(endpoint: Any) -> Iterator[OpenAI]:
    options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key, "max_retries": 0}
    with OpenAI(**options) as client:
        yield client


@pytest.fixture
def settings(endpoint: Any) -> dict[str, Any]:
    return {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": f"Who is it? {TEXT}"}],
        "temperature": 0,
        "max_tokens": 150,
        "max_retries": 0,
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_person_is_extracted_at_the_first_try(
    mode: instructor.Mode, openai_client: OpenAI, settings: dict[str, Any]
) -> None:
    client = instructor.from_openai(openai_client, mode=mode)
    person, answer = client.chat.completions.create_with_completion(
        **settings, response_model=Person
    )
    assert isinstance(person, Person)
    assert answer.usage.completion_tokens > 5


@pytest.mark.parametrize("mode", MODES)
def test_a_person_grows_while_it_streams(
    mode: instructor.Mode, openai_client: OpenAI, settings: dict[str, Any]
) -> None:
    client = instructor.from_openai(openai_client, mode=mode)

    def num_parts() -> int:
        parts = list(client.chat.completions.create_partial(**settings, response_model=Person))
        assert Person.model_validate(parts[-1].model_dump())
        return len(parts)

    in_more_pieces_than(2, num_parts)


def test_an_asynchronous_extraction(endpoint: Any, settings: dict[str, Any]) -> None:
    async def extract() -> Any:
        options = {"base_url": endpoint.base_url, "api_key": endpoint.api_key}
        async with AsyncOpenAI(**options) as client:
            reader = instructor.from_openai(client, mode=instructor.Mode.TOOLS)
            return await reader.chat.completions.create(**settings, response_model=Person)

    assert isinstance(asyncio.run(extract()), Person)
