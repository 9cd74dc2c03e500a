"""Bodies as they are read: large lists cost little, whatever is in them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from octavo.engine.async_engine import AsyncEngine
from octavo.engine.errors import BadRequestError
from octavo.engine.generation_defaults import NO_DEFAULTS
from octavo.server.chat_protocol import ChatCompletionRequest
from octavo.server.completions import prepare_prompts
from octavo.server.errors import explain_validation
from octavo.server.protocol import CompletionRequest
from octavo.server.service import Service

TALK = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionRequest, {"prompt": [1] * 50_000 + ["x"]}),
        (CompletionRequest, {"prompt": ["x"] * 50_000 + [1]}),
        (CompletionRequest, {"prompt": [[1]] * 50_000 + [2]}),
        (CompletionRequest, {"prompt": "a", "guided_choice": [1] * 50_000}),
        (ChatCompletionRequest, {"messages": TALK, "tools": [1] * 50_000}),
        (ChatCompletionRequest, {"messages": [{"role": "user", "content": [1] * 16_000}]}),
        (ChatCompletionRequest, {"messages": ["Hello"] * 16_000}),
    ],
)
def test_a_list_is_judged_by_its_first_wrong_item(
    kind: type[BaseModel], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert caught.value.error_count() < 10


def test_of_a_large_value_only_the_beginning_is_written() -> None:
    class Unwritten:
        """Fails if it is made a text of."""

        def __str__(self) -> str:
            raise AssertionError("nobody sees this")

    values = [1] * 200 + [Unwritten()]
    problem = {"type": "too_long", "loc": ("body", "prompt"), "msg": "too long", "input": values}
    message, param = explain_validation([problem])
    assert message.startswith("prompt: too long (got [1, 1, 1, ")
    assert param == "prompt"


def test_a_token_that_is_allowed_twice_counts_once() -> None:
    body = CompletionRequest.model_validate({"prompt": "a", "allowed_token_ids": [5, 3, 5, 3]})
    assert body.sampling_params(1, None).allowed_token_ids == (5, 3)


class Unreadable:
    """A tokenizer that decodes nothing."""

    longest_token_bytes = 1
    special_ids = frozenset[int]()

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        raise AssertionError("nobody asked for this text")


class EngineOfTen:
    """What an engine with a context of ten tokens and as large a vocabulary says of prompts."""

    tokenizer = Unreadable()
    info = SimpleNamespace(max_model_len=10, vocab_size=10)
    settings = SimpleNamespace(max_logprobs=20)
    validate = AsyncEngine.validate
    check_structured = AsyncEngine.check_structured


def prepare(**fields: Any) -> list[list[int]]:
    engine: Any = EngineOfTen()
    unused: Any = None
    service = Service(engine, defaults=NO_DEFAULTS, chats=unused, formats=unused, tenants=None)
    body = CompletionRequest.model_validate({"max_tokens": 1, **fields})
    params = body.sampling_params(body.max_tokens, None)
    prompts, _ = asyncio.run(prepare_prompts(service, body, body.prompts(), params))
    return [prompt.token_ids for prompt in prompts]


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize(
    ("prompt", "message"), [([1] * 11, "maximum context length"), ([11], "out of vocabulary")]
)
def test_token_ids_that_cannot_be_a_prompt_are_refused_before_they_are_decoded(
    prompt: list[int], message: str, echo: bool
) -> None:
    with pytest.raises(BadRequestError, match=message):
        prepare(prompt=prompt, echo=echo)


def test_token_ids_that_nobody_sees_as_text_are_not_decoded() -> None:
    assert prepare(prompt=[[1, 2], [3]]) == [[1, 2], [3]]
